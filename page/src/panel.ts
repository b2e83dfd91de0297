/** The panel beside the map: the answer first, then what is shown, the legend, and the head of the list. */

import type { Scene } from "./api";
import type { Scheme } from "./colours";
import { button, fill, h } from "./dom";
import type { Colouring, Settings, SortKey, Store } from "./store";
import { area, whole } from "./words";

/** What was found, what was looked for, what is wrong, what is doubtful. */
export function answer(scene: Scene, problems: HTMLElement): HTMLElement {
  const [first, ...rest] = scene.answer;
  const { model } = scene;
  return h("section", { className: "answer" },
    h("h1", {}, first ? sentence(first) : scene.name),
    ...rest.map((line) => h("p", {}, sentence(line))),
    model.purpose ? h("p", { className: "muted" }, model.purpose) : null,
    problems,
    doubts(scene.doubts));
}

/** What is wrong with the product or its images, and what to do about it. */
export function tellProblems(into: HTMLElement, problems: Scene["problems"]): void {
  fill(into, ...problems.map((each) => h("p", { className: "problem" }, h("strong", {}, sentence(each.what)), ` ${sentence(each.do)}`)));
}

function sentence(line: string): string {
  return line.charAt(0).toUpperCase() + line.slice(1);
}

function doubts(lines: string[]): HTMLElement | null {
  if (!lines.length) return null;
  const [first, ...rest] = lines;
  const more = rest.length
    ? h("details", {}, h("summary", {}, `${rest.length} more`), ...rest.map((line) => h("p", {}, sentence(line))))
    : null;
  return h("div", { className: "doubts" }, h("h2", {}, "Doubtful"), h("p", {}, sentence(first)), more);
}

interface Range { low: number; high: number; step: number; shown: (value: number) => string; from?: (at: number) => number; to?: (value: number) => number }

function slider(store: Store, key: "threshold" | "minArea" | "opacity", label: string, range: Range, title: string): HTMLElement {
  const [to, from] = [range.to ?? ((value: number) => value), range.from ?? ((at: number) => at)];
  const input = h("input", { type: "range", id: key, min: String(range.low), max: String(range.high), step: String(range.step), title });
  const shown = h("output", { htmlFor: key } as never);
  input.addEventListener("input", () => store.set({ [key]: from(Number(input.value)) }));
  store.watch([key], (now) => {
    input.value = String(to(now[key]));
    shown.textContent = range.shown(now[key]);
    input.setAttribute("aria-valuetext", range.shown(now[key]));
  });
  return h("div", { className: "slider" }, h("label", { htmlFor: key }, label), shown, input);
}

function tick(store: Store, key: "change" | "probability" | "outlines" | "openOnly" | "advance", label: string, shortcut?: string): HTMLElement {
  const input = h("input", { type: "checkbox", id: key });
  input.addEventListener("change", () => store.set({ [key]: input.checked }));
  store.watch([key], (now) => (input.checked = now[key]));
  return h("label", { className: "tick" }, input, label, shortcut ? h("kbd", { "aria-hidden": "true" }, shortcut) : null);
}

function choice<T extends string>(id: string, label: string, options: [T, string][], now: () => T, take: (value: T) => void): HTMLElement {
  const select = h("select", { id, "aria-label": label }, ...options.map(([value, words]) => h("option", { value }, words)));
  select.value = now();
  select.addEventListener("change", () => take(select.value as T));
  return select;
}

/** Layers, threshold, smallest area, opacity. The areas go in equal steps of their logarithm. */
export function layers(scene: Scene, store: Store, largest: () => number): HTMLElement {
  const base = Math.max(scene.area_unit === "px" ? 1 : scene.min_area, 1);
  const top = (): number => Math.max(largest(), base * 1.1);
  const areas: Range = {
    low: 0, high: 100, step: 1,
    from: (at) => (at === 0 ? scene.min_area : floored(base * (top() / base) ** (at / 100))),
    to: (value) => (value <= base ? 0 : (100 * Math.log(value / base)) / Math.log(top() / base)),
    shown: (value) => area(value, scene.area_unit),
  };
  const note = `The polygons were outlined at threshold ${scene.threshold.toFixed(2)}, the map's own; another one repaints the pixels.`;
  const share = (value: number): string => `${Math.round(value * 100)} %`;
  return h("section", { className: "layers" },
    h("div", { className: "ticks" }, tick(store, "change", "Change", "C"), tick(store, "probability", "Probability", "P"), tick(store, "outlines", "Polygons", "O")),
    slider(store, "threshold", "Threshold", { low: 0, high: 1, step: 0.01, shown: (value) => value.toFixed(2) }, note),
    slider(store, "minArea", "Smallest area", areas, "Smaller polygons are neither listed nor drawn; pixels stay."),
    slider(store, "opacity", "Opacity", { low: 0, high: 1, step: 0.05, shown: share }, "Of change and probability"),
    moved(scene, store, note));
}

/** Rounded down to two digits, so that the largest polygon is never left out. */
function floored(value: number): number {
  const digit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return +(Math.floor(value / digit) * digit).toPrecision(2);
}

/** Says that the painted pixels are no longer those of the polygons. */
function moved(scene: Scene, store: Store, note: string): HTMLElement {
  const back = button("Back to it", () => store.set({ threshold: scene.threshold }), undefined, { className: "link" });
  const line = h("p", { className: "muted small" }, `${note} `, back);
  store.watch(["threshold"], (now) => (line.hidden = Math.abs(now.threshold - scene.threshold) < 0.005));
  return line;
}

const COLOURINGS: [Colouring, string][] = [["verdict", "verdict"], ["size", "size"], ["probability", "probability"]];

/** The legend of the polygons and of the painted pixels. */
export class Legend {
  readonly element: HTMLElement;
  private readonly classes = h("ul", { className: "classes" });

  constructor(store: Store) {
    const by = choice("colouring", "Colour polygons by", COLOURINGS, () => store.now.colouring, (colouring) => store.set({ colouring }));
    store.watch(["colouring"], (now) => ((by as HTMLSelectElement).value = now.colouring));
    const ramp = h("div", { className: "ramp" }, h("span", {}, "0"), h("i", { role: "img", "aria-label": "Colours of probability from 0 to 1" }), h("span", {}, "1 probability"));
    store.watch(["probability"], (now) => (ramp.hidden = !now.probability));
    this.element = h("section", { className: "legend" },
      h("div", { className: "head" }, h("label", { htmlFor: "colouring" }, "Colour by"), by), this.classes, ramp);
  }

  draw({ classes }: Scheme, counts: number[]): void {
    fill(this.classes, ...classes.map(({ label, colour, dash }, i) => {
      const key = h("i", { className: dash ? "dashed" : "" });
      key.style.setProperty("--colour", colour);
      return h("li", {}, key, label, h("span", { className: "muted" }, whole(counts[i])));
    }));
  }
}

const SORTS: [SortKey, string][] = [
  ["area", "area"], ["probability", "probability"], ["uncertainty", "uncertainty"], ["shift", "shift explains it"],
];

/** How the list is sorted and what it leaves out. */
export function listHead(store: Store, judged: HTMLElement): HTMLElement {
  const by = choice("sort", "Sort by", SORTS, () => store.now.sort, (sort) => store.set({ sort, descending: true })) as HTMLSelectElement;
  const turn = h("button", { type: "button", className: "turn", onclick: () => store.set({ descending: !store.now.descending }) });
  store.watch(["sort", "descending"], (now: Settings) => {
    by.value = now.sort;
    turn.textContent = now.descending ? "↓" : "↑";
    turn.setAttribute("aria-label", now.descending ? "Largest first; turn round" : "Smallest first; turn round");
    turn.title = turn.getAttribute("aria-label") ?? "";
  });
  const sort = h("span", { className: "sort" }, h("label", { htmlFor: "sort" }, "Sort by"), by, turn);
  const ticks = h("span", { className: "pair" }, tick(store, "openOnly", "Only not judged"), tick(store, "advance", "Go on after a verdict"));
  return h("div", { className: "list-head" }, judged, sort, ticks);
}
