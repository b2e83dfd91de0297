/** The list of polygons: only the rows in sight exist, so that ten thousand are as quick as ten. */

import type { Verdict } from "./api";
import { fill, h, quiet } from "./dom";
import type { Polygons } from "./polygons";
import { area, probability } from "./words";

const ROW_PX = 92;
const SPARE = 4;
const NOTHING = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E";
const SAID: Record<Verdict, string> = { accept: "accepted", reject: "rejected", unsure: "unsure" };

interface Options {
  polygons: Polygons;
  unit: "m2" | "px";
  said: (id: number) => Verdict | undefined;
  choose: (id: number) => void;
  step: (by: number) => void;
}

export class List {
  readonly element: HTMLElement;
  private readonly rows: HTMLElement;
  private selected: number | null = null;
  private readonly settled: () => void;

  constructor(private readonly options: Options) {
    this.rows = h("div", { className: "rows" });
    this.element = h("div", { className: "list", role: "listbox", tabIndex: 0, id: "list" }, this.rows);
    this.element.setAttribute("aria-label", "Polygons of change");
    this.settled = quiet(120, () => this.draw(true));
    this.element.addEventListener("scroll", () => {
      this.draw(false);
      this.settled();
    });
    this.element.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 5, PageUp: -5 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      options.step(by);
    });
    new ResizeObserver(() => this.draw(true)).observe(this.element);
  }

  /** Draw the rows in sight; images of rows that fly by are not asked for. */
  draw(images = true): void {
    const { order } = this.options.polygons;
    this.rows.style.height = `${order.length * ROW_PX}px`;
    const from = Math.max(0, Math.floor(this.element.scrollTop / ROW_PX) - SPARE);
    const to = Math.min(order.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / ROW_PX) + SPARE);
    const known = new Map([...this.rows.children].map((row) => [(row as HTMLElement).dataset.key, row as HTMLElement]));
    const wanted: HTMLElement[] = [];
    for (let rank = from; rank < to; rank++) {
      const key = this.key(rank);
      const row = known.get(key) ?? this.row(rank, key);
      if (images) for (const image of row.querySelectorAll<HTMLImageElement>("img:not(.missing):not([src])")) image.src = address(image);
      wanted.push(row);
    }
    if (wanted.length !== known.size || wanted.some((row) => row.parentNode !== this.rows)) fill(this.rows, ...wanted);
  }

  /** Ask again for images that could not be had. */
  again(): void {
    for (const image of this.rows.querySelectorAll<HTMLImageElement>("img.missing")) {
      image.classList.remove("missing");
      image.src = address(image);
    }
  }

  /** Choose a row and bring it into sight. */
  show(id: number | null): void {
    this.selected = id;
    const rank = this.options.polygons.rank(id);
    if (rank !== undefined) {
      const [top, height] = [rank * ROW_PX, this.element.clientHeight];
      if (top < this.element.scrollTop || top + ROW_PX > this.element.scrollTop + height) {
        this.element.scrollTop = top - (height - ROW_PX) / 2;
      }
      this.element.setAttribute("aria-activedescendant", `polygon-${id}`);
    } else this.element.removeAttribute("aria-activedescendant");
    this.draw();
  }

  /** Equal keys, equal rows. */
  private key(rank: number): string {
    const id = this.options.polygons.id[this.options.polygons.order[rank]];
    return `${rank}/${id}/${this.options.said(id) ?? ""}/${id === this.selected}`;
  }

  private row(rank: number, key: string): HTMLElement {
    const { polygons, said, unit, choose } = this.options;
    const index = polygons.order[rank];
    const id = polygons.id[index];
    const verdict = said(id);
    const facts = `p ${probability(polygons.mean[index])} · uncertainty ${probability(polygons.uncertainty[index])}`;
    const row = h(
      "div",
      { className: `row ${verdict ?? "open"}`, role: "option", id: `polygon-${id}`, onclick: () => choose(id) },
      chip(id, "before"), chip(id, "after"),
      h("div", { className: "facts" },
        h("strong", {}, area(polygons.area[index], unit)), h("span", { className: "muted number" }, `no. ${id}`),
        h("span", { className: "muted line", title: "Mean probability; uncertainty is 1 at the threshold, 0 farthest from it" }, facts),
        h("span", { className: "tags" },
          verdict ? h("span", { className: `tag ${verdict}` }, SAID[verdict]) : null,
          polygons.shift[index] ? h("span", { className: "tag doubt" }, "shift explains it") : null,
          outline(polygons.outlineIn[index]))),
    );
    row.dataset.key = key;
    row.style.top = `${rank * ROW_PX}px`;
    row.setAttribute("aria-selected", String(id === this.selected));
    row.setAttribute("aria-posinset", String(rank + 1));
    row.setAttribute("aria-setsize", String(polygons.order.length));
    return row;
  }
}

function outline(date: string | null): HTMLElement | null {
  return date === "before" || date === "after" ? h("span", { className: "tag" }, `outline in ${date}`) : null;
}

function chip(id: number, date: "before" | "after"): HTMLElement {
  const image = h("img", { className: "chip", alt: "", width: 72, height: 72, draggable: false });
  image.dataset.chip = `api/chip/${id}/${date}.webp`;
  image.onerror = () => {
    image.classList.add("missing");
    image.src = NOTHING;  // in place of the browser's own sign of a broken image
  };
  return image;
}

function address(image: HTMLImageElement): string {
  return image.dataset.chip ?? "";
}
