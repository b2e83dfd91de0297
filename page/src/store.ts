/** What the analyst has set: views, layers, thresholds, the chosen polygon. One value, watched by those who draw it. */

export type Mode = "swipe" | "blink" | "side";
export type Colouring = "verdict" | "size" | "probability";
export type SortKey = "area" | "probability" | "uncertainty" | "shift";

export interface Settings {
  mode: Mode;
  /** The date that blink shows. */
  shown: "before" | "after";
  /** Where the swipe cuts, from 0 (left) to 1. */
  cut: number;
  /** Whether pixels at or above the threshold are painted. */
  change: boolean;
  /** Whether the probability is painted as a ramp. */
  probability: boolean;
  outlines: boolean;
  opacity: number;
  /** Probability from which a pixel is painted as changed. */
  threshold: number;
  /** Smaller polygons are neither listed nor drawn; in the scene's unit of area. */
  minArea: number;
  colouring: Colouring;
  sort: SortKey;
  descending: boolean;
  /** List only what nobody has judged. */
  openOnly: boolean;
  /** Go on to the next polygon after a verdict. */
  advance: boolean;
  /** `id` of the chosen polygon. */
  selected: number | null;
}

type Watcher = (settings: Settings, changed: ReadonlySet<keyof Settings>) => void;

export class Store {
  private watchers: Watcher[] = [];
  constructor(public now: Settings) {}

  set(part: Partial<Settings>): void {
    const keys = (Object.keys(part) as (keyof Settings)[]).filter((key) => part[key] !== this.now[key]);
    if (!keys.length) return;
    this.now = { ...this.now, ...part };
    const changed = new Set(keys);
    for (const watcher of this.watchers) watcher(this.now, changed);
  }

  /** Be told of changes of some settings, and now. */
  watch(keys: (keyof Settings)[], call: (settings: Settings) => void): void {
    this.watchers.push((settings, changed) => {
      if (keys.some((key) => changed.has(key))) call(settings);
    });
    call(this.now);
  }
}

export function defaults(threshold: number, minArea: number): Settings {
  return {
    mode: "swipe", shown: "after", cut: 0.5, change: true, probability: false, outlines: true, opacity: 0.6,
    threshold, minArea, colouring: "verdict", sort: "area", descending: true, openOnly: false, advance: true,
    selected: null,
  };
}
