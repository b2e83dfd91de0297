/** All polygons of the product as columns of numbers: filtered and sorted here, so that no key waits for the server. */

import { get, type Columns } from "./api";
import type { Settings, SortKey } from "./store";

/** Columns that the page uses, of those that there are. */
const USED = [
  "id", "area_m2", "area_px", "mean_probability", "uncertainty", "shift_explains", "outline_in", "x_min", "y_min", "x_max", "y_max",
];
const CHUNK = 10_000;
/** More are not listed: the largest are. */
const MOST = 200_000;

type Judged = (id: number) => boolean;
interface Part { total: number; count: number; columns: Columns }

export class Polygons {
  /** How many the product holds. */
  total = 0;
  /** Whether all are here that are to be listed. */
  complete = false;
  id: number[] = [];
  area: number[] = [];
  mean: number[] = [];
  uncertainty: number[] = [];
  shift: number[] = [];
  outlineIn: (string | null)[] = [];
  xmin: number[] = [];
  ymin: number[] = [];
  xmax: number[] = [];
  ymax: number[] = [];
  /** Indices of those listed, in the order of the list. */
  order: number[] = [];
  private query: Record<string, string | number | boolean> = {};
  private first: Promise<Part> | null = null;
  private places = new Map<number, number>();
  private ranks = new Map<number, number>();

  /** Ask for the first part before the page is put together: both take their time. */
  ask(fields: string[], areaField: string): void {
    this.query = { sort: areaField, descending: true, limit: CHUNK, fields: USED.filter((name) => fields.includes(name)).join(",") };
    this.first = this.part();
    this.first.catch(() => null);  // `load` tells
  }

  /** Load all, the largest first; `more` is called after each part. After an error, it goes on from there. */
  async load(more: () => void): Promise<void> {
    while (!this.complete) {
      const asked = this.first ?? this.part();
      this.first = null;
      const part = await asked;
      this.total = part.total;
      this.complete = !part.count || this.count + part.count >= Math.min(this.total, MOST);
      this.add(part.columns);
      more();
    }
  }

  private part(): Promise<Part> {
    return get<Part>("api/polygons", { ...this.query, offset: this.count });
  }

  private add(columns: Columns): void {
    columns.id.forEach((id, i) => this.places.set(id, this.id.length + i));
    const numbers = (values: (number | boolean | null)[] | undefined): number[] =>
      values?.map((value) => (value === null ? NaN : Number(value))) ?? columns.id.map(() => 0);
    this.id = this.id.concat(columns.id);
    this.area = this.area.concat(numbers(columns.area_m2 ?? columns.area_px));
    this.mean = this.mean.concat(numbers(columns.mean_probability));
    this.uncertainty = this.uncertainty.concat(numbers(columns.uncertainty));
    this.shift = this.shift.concat(numbers(columns.shift_explains).map((value) => value || 0));
    this.outlineIn = this.outlineIn.concat(columns.outline_in ?? columns.id.map(() => null));
    this.xmin = this.xmin.concat(columns.x_min);
    this.ymin = this.ymin.concat(columns.y_min);
    this.xmax = this.xmax.concat(columns.x_max);
    this.ymax = this.ymax.concat(columns.y_max);
  }

  get count(): number {
    return this.id.length;
  }

  /** Index of a polygon by its `id`. */
  place(id: number | null): number | undefined {
    return id === null ? undefined : this.places.get(id);
  }

  /** Place in the list; undefined if it is not listed. */
  rank(id: number | null): number | undefined {
    return id === null ? undefined : this.ranks.get(id);
  }

  extent(index: number): [number, number, number, number] {
    return [this.xmin[index], this.ymin[index], this.xmax[index], this.ymax[index]];
  }

  centre(index: number): [number, number] {
    return [(this.xmin[index] + this.xmax[index]) / 2, (this.ymin[index] + this.ymax[index]) / 2];
  }

  /** List anew what the settings ask for. */
  arrange({ minArea, sort, descending, openOnly }: Settings, judged: Judged): void {
    const values = this.values(sort);
    const kept: number[] = [];
    for (let i = 0; i < this.count; i++) {
      if (!(this.area[i] < minArea) && !(openOnly && judged(this.id[i]))) kept.push(i);
    }
    const sign = descending ? -1 : 1;
    // Unknown areas (NaN) compare as equal, and keep the order in which they came.
    kept.sort((a, b) => sign * (values[a] - values[b]) || this.area[b] - this.area[a] || this.id[a] - this.id[b]);
    this.order = kept;
    this.ranks = new Map(kept.map((index, rank) => [this.id[index], rank]));
  }

  private values(sort: SortKey): number[] {
    return { area: this.area, probability: this.mean, uncertainty: this.uncertainty, shift: this.shift }[sort];
  }

  /** The smallest polygon whose rectangle holds a place, or the nearest one within `reach`. */
  at([x, y]: [number, number], reach: number): number | null {
    let best: number | null = null;
    let least = Infinity;
    for (const i of this.order) {
      const dx = Math.max(this.xmin[i] - x, 0, x - this.xmax[i]);
      const dy = Math.max(this.ymin[i] - y, 0, y - this.ymax[i]);
      const away = Math.hypot(dx, dy);
      const cost = away === 0 ? -1 / (1 + this.area[i]) : away;
      if (away <= reach && cost < least) [best, least] = [this.id[i], cost];
    }
    return best;
  }

  /** Those listed whose rectangle meets an extent. */
  within([xmin, ymin, xmax, ymax]: number[]): number[] {
    return this.order.filter(
      (i) => this.xmin[i] <= xmax && this.xmax[i] >= xmin && this.ymin[i] <= ymax && this.ymax[i] >= ymin,
    );
  }
}
