/** The card of the chosen polygon or drawing, under the map: what it is, and the verdict. */

import type { Row, Verdict } from "./api";
import { button, fill, h } from "./dom";
import type { Polygons } from "./polygons";
import type { Review } from "./review";
import { area, probability, whole } from "./words";

export type Fields = Record<string, string | number | boolean | null>;

const VERDICTS: [Verdict, string, string][] = [["accept", "Accept", "A"], ["reject", "Reject", "R"], ["unsure", "Unsure", "U"]];

interface Options {
  polygons: Polygons;
  review: Review;
  unit: "m2" | "px";
  judge: (verdict: Verdict) => void;
  step: (by: number) => void;
  split: () => void;
  remove: (row: Row) => void;
}

export class Card {
  readonly element = h("section", { className: "card", "aria-label": "Chosen polygon", hidden: true });

  constructor(private readonly options: Options) {}

  /** Show a polygon by its index, with all fields of its row of change.gpkg once they are here. */
  polygon(index: number | undefined, fields: Fields | null): void {
    this.element.hidden = index === undefined;
    if (index === undefined) return;
    const { polygons, review, unit, step, split } = this.options;
    const id = polygons.id[index];
    const rank = polygons.rank(id);
    const open = this.element.querySelector("details")?.open ?? false;
    const place = rank === undefined ? "not in the list" : `${whole(rank + 1)} of ${whole(polygons.order.length)}`;
    fill(this.element,
      h("div", { className: "what" },
        h("strong", {}, area(polygons.area[index], unit)),
        h("span", {}, `probability ${probability(polygons.mean[index])}`),
        h("span", { className: "muted" }, `no. ${id}, ${place}`),
        polygons.shift[index] ? h("span", { className: "tag doubt" }, "shift explains it") : null),
      h("div", { className: "verdicts", role: "group", "aria-label": "Verdict" },
        button("‹", () => step(-1), "K", { "aria-label": "Previous polygon", title: "Previous polygon" }),
        ...this.buttons(review.of(id)),
        button("›", () => step(1), "J", { "aria-label": "Next polygon", title: "Next polygon" }),
        button("Split", split, "X")),
      fields ? facts(fields, open) : null);
  }

  /** Show something drawn. */
  drawing(row: Row): void {
    this.element.hidden = false;
    const words = { drawn: row.polygon === null ? "Drawn change" : `Piece of no. ${row.polygon}`, erased: "Drawn as unchanged", judged: "" };
    fill(this.element,
      h("div", { className: "what" }, h("strong", {}, words[row.kind]),
        h("span", { className: "muted" }, `by ${row.author}, ${new Date(row.time).toLocaleString()}`)),
      h("div", { className: "verdicts", role: "group", "aria-label": "Verdict" },
        ...(row.kind === "drawn" ? this.buttons(row.verdict) : []),
        button("Remove", () => this.options.remove(row), "Delete")));
  }

  private buttons(now: Verdict | undefined): HTMLElement[] {
    return VERDICTS.map(([verdict, word, key]) =>
      button(word, () => this.options.judge(verdict), key, { className: `verdict ${verdict}`, "aria-pressed": String(verdict === now) }));
  }
}

function facts(fields: Fields, open: boolean): HTMLElement {
  const shown = (value: Fields[string]): string =>
    value === null ? "unknown" : typeof value === "number" && !Number.isInteger(value) ? String(+value.toPrecision(5)) : String(value);
  return h("details", { open }, h("summary", {}, "All fields"),
    h("dl", {}, ...Object.entries(fields).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, shown(value))))));
}
