/** Colours of what lies above the images: light hues on a dark edge, told apart without red and green as well. */

import type { Verdict } from "./api";
import type { Polygons } from "./polygons";
import type { Colouring } from "./store";
import { roundedDown } from "./ground";
import { area as areaWords } from "./words";

export interface Class { label: string; colour: string; dash?: number[] }
export interface Scheme { title: string; classes: Class[]; of: (index: number) => number }

export const CHANGE = "#ff2f6d";
export const DRAWN = "#5cd6ff";
export const ERASED = "#e6e6e6";
const LIGHT_TO_DARK = ["#fff3b0", "#ffc857", "#ff8c42", "#ff4d3d"];
const VERDICTS: Record<Verdict | "open", Class> = {
  open: { label: "not judged", colour: "#ffd92e" },
  accept: { label: "accepted", colour: "#2fe0a5" },
  reject: { label: "rejected", colour: "#ff7a90", dash: [6, 5] },
  unsure: { label: "unsure", colour: "#c5a3ff", dash: [2, 4] },
};
const ORDER: (Verdict | "open")[] = ["open", "accept", "reject", "unsure"];

type Said = (id: number) => Verdict | undefined;

/** How polygons are coloured, and the legend of it. */
export function scheme(by: Colouring, polygons: Polygons, unit: "m2" | "px", said: Said): Scheme {
  if (by === "verdict") {
    const of = (i: number): number => ORDER.indexOf(said(polygons.id[i]) ?? "open");
    return { title: "Verdict", classes: ORDER.map((each) => VERDICTS[each]), of };
  }
  const limits = by === "size" ? sizes(polygons.area) : [0.6, 0.75, 0.9];
  const word = (value: number): string => (by === "size" ? areaWords(value, unit) : value.toFixed(2));
  const labels = [
    `below ${word(limits[0])}`,
    ...limits.map((low, i) => (i + 1 < limits.length ? `${word(low)} to ${word(limits[i + 1])}` : `${word(low)} and more`)),
  ];
  const values = by === "size" ? polygons.area : polygons.mean;
  return {
    title: by === "size" ? "Area" : "Mean probability",
    classes: labels.map((label, i) => ({ label, colour: LIGHT_TO_DARK[i] })),
    of: (i) => limits.filter((limit) => values[i] >= limit).length,
  };
}

/** Three round limits near the median, the 80th and the 95th percentile. */
function sizes(areas: number[]): number[] {
  const sorted = areas.filter(Number.isFinite).sort((a, b) => a - b);
  const limits: number[] = [];
  for (const share of [0.5, 0.8, 0.95]) {
    let limit = roundedDown(Math.max(sorted[Math.floor(share * (sorted.length - 1))] ?? 1, 1));
    while (limits.length && limit <= limits[limits.length - 1]) limit = roundedDown(limit * 2.5);
    limits.push(limit);
  }
  return limits;
}
