/** The state of the page in its address, so that a link or a reload leads back to the same sight. */

import type View from "ol/View";
import { quiet } from "./dom";
import type { Settings, Store } from "./store";

type Codec = { [K in keyof Settings]?: { name: string; read: (text: string) => Settings[K] | undefined } };

const among = <T extends string>(...words: T[]) => (text: string): T | undefined => words.find((word) => word === text);
const number = (low: number, high: number) => (text: string): number | undefined => {
  const value = Number(text);
  return text !== "" && value >= low && value <= high ? value : undefined;
};
const flag = (text: string): boolean => text === "1";

const CODEC: Codec = {
  mode: { name: "mode", read: among("swipe", "blink", "side") },
  shown: { name: "shown", read: among("before", "after") },
  cut: { name: "cut", read: number(0, 1) },
  change: { name: "change", read: flag },
  probability: { name: "probability", read: flag },
  outlines: { name: "outlines", read: flag },
  opacity: { name: "opacity", read: number(0, 1) },
  threshold: { name: "threshold", read: number(0, 1) },
  minArea: { name: "area", read: number(0, Infinity) },
  colouring: { name: "colour", read: among("verdict", "size", "probability") },
  sort: { name: "sort", read: among("area", "probability", "uncertainty", "shift") },
  descending: { name: "down", read: flag },
  openOnly: { name: "open", read: flag },
  selected: { name: "polygon", read: number(0, Number.MAX_SAFE_INTEGER) },
};

interface Link { settings: Partial<Settings>; view: { x: number; y: number; resolution: number; rotation: number } | null }

/** What an address says; what it does not say, or says wrongly, is left out. */
export function read(hash: string): Link {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const settings: Record<string, unknown> = {};
  for (const [key, codec] of Object.entries(CODEC)) {
    const text = words.get(codec.name);
    const value = text === null ? undefined : codec.read(text);
    if (value !== undefined) settings[key] = value;
  }
  const [x, y, resolution, rotation] = (words.get("at") ?? "").split(",").map(Number);
  const whole = [x, y, resolution, rotation].every(Number.isFinite) && resolution > 0;
  return { settings, view: whole ? { x, y, resolution, rotation } : null };
}

function write(view: View, store: Store, usual: Settings): string {
  const words = new URLSearchParams();
  const [x, y] = view.getCenter() ?? [0, 0];
  words.set("at", [x, y, view.getResolution() ?? 1, view.getRotation()].map((value) => +value.toPrecision(12)).join(","));
  for (const [key, codec] of Object.entries(CODEC) as [keyof Settings, { name: string }][]) {
    const value = store.now[key];
    if (value !== usual[key] && value !== null) words.set(codec.name, typeof value === "boolean" ? String(+value) : String(value));
  }
  return `#${words.toString().replaceAll("%2C", ",")}`;
}

/** Keep the address up to date, and follow it when somebody changes it. */
export function follow(view: View, store: Store, usual: Settings): void {
  const save = quiet(300, () => history.replaceState(null, "", write(view, store, usual)));
  view.on(["change:center", "change:resolution", "change:rotation"] as never, save);
  store.watch(Object.keys(CODEC) as (keyof Settings)[], save);
  window.addEventListener("hashchange", () => {
    const link = read(location.hash);
    place(view, link);
    store.set({ ...usual, advance: store.now.advance, ...link.settings });
  });
}

export function place(view: View, { view: at }: Link): boolean {
  if (!at) return false;
  view.setCenter([at.x, at.y]);
  view.setResolution(at.resolution);
  view.setRotation(at.rotation);
  return true;
}
