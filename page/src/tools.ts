/** Drawing: what was missed, what is no change, a line that splits, and a click that grows a region. */

import Feature from "ol/Feature";
import type OlMap from "ol/Map";
import Draw from "ol/interaction/Draw";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { post } from "./api";
import { button, fill, h } from "./dom";
import { fromOl, toOl, type Geometry } from "./geometry";
import type { Review } from "./review";
import type { Store } from "./store";
import { counted } from "./words";

export type Tool = "draw" | "erase" | "split" | "grow";

const HINTS: Record<Tool, string> = {
  draw: "Draw around a change that the map missed: a click sets a corner, Enter or a double click ends, Backspace takes the last corner back.",
  erase: "Draw around ground where nothing changed: it counts as unchanged when a model learns.",
  split: "Draw a line through the chosen polygon: its pieces are then judged one by one.",
  grow: "Click into a change: the region of probability around it grows down to the threshold.",
};

interface Grown { geometry: Geometry | null; pixels: number; cut: boolean; reason?: string }

interface Options {
  maps: () => OlMap[];
  store: Store;
  review: Review;
  fail: (error: unknown) => void;
  selected: () => number | null;
  /** Called when another tool is taken, or none. */
  taken: (tool: Tool | null) => void;
}

const SKETCH = [
  new Style({ stroke: new Stroke({ color: "rgb(0 0 0 / 0.7)", width: 5 }) }),
  new Style({ stroke: new Stroke({ color: "#5cd6ff", width: 2.5 }), fill: new Fill({ color: "rgb(92 214 255 / 0.2)" }) }),
];

export class Tools {
  readonly element = h("div", { className: "hint", role: "status", hidden: true });
  tool: Tool | null = null;
  private readonly sketch = new VectorSource({ wrapX: false });
  private draws: { map: OlMap; draw: Draw }[] = [];
  private seed: number[] | null = null;
  private grown: Geometry | null = null;
  private asked = 0;

  constructor(private readonly options: Options) {
    options.store.watch(["threshold"], () => this.seed && void this.grow(this.seed));
  }

  layer(): VectorLayer {
    return new VectorLayer({ source: this.sketch, style: SKETCH });
  }

  /** Take a tool, or put it away when it is in hand. */
  take(tool: Tool | null): void {
    this.drop();
    const wanted = tool === this.tool ? null : tool;
    if (wanted === "split" && this.options.selected() === null) {
      this.options.fail(new Error("Choose a polygon first: click it, or press J."));
      this.tool = null;
    } else this.tool = wanted;
    if (this.tool) this.hint(HINTS[this.tool]);
    if (this.tool && this.tool !== "grow") this.options.maps().forEach((map) => this.draw(map));
    this.options.taken(this.tool);
  }

  /** A click on the map; whether the tool used it. */
  click(at: number[]): boolean {
    if (this.tool === "grow") void this.grow(at);
    return this.tool !== null;
  }

  /** Enter: end a drawing, or keep what grew. */
  finish(): void {
    if (this.grown) void this.keep();
    else for (const { draw } of this.draws) draw.finishDrawing();
  }

  /** Backspace: take the last corner back. */
  back(): void {
    for (const { draw } of this.draws) draw.removeLastPoint();
  }

  private draw(map: OlMap): void {
    const draw = new Draw({ type: this.tool === "split" ? "LineString" : "Polygon", style: SKETCH, stopClick: true });
    draw.on("drawend", ({ feature }) => {
      const geometry = feature.getGeometry();
      if (geometry) void this.drawn(fromOl(geometry));
    });
    map.addInteraction(draw);
    this.draws.push({ map, draw });
  }

  private async drawn(geometry: Geometry): Promise<void> {
    const { review, fail, selected } = this.options;
    try {
      if (this.tool === "draw") await review.say({ kind: "drawn", polygon: null, verdict: "accept", geometry });
      else if (this.tool === "erase") await review.say({ kind: "erased", polygon: null, verdict: "reject", geometry });
      else await this.split(geometry, selected());
    } catch (error) {
      // What was drawn stays in sight until it is saved or the tool is put away.
      this.sketch.addFeature(new Feature(toOl(geometry)));
      fail(error);
    }
  }

  private async split(line: Geometry, polygon: number | null): Promise<void> {
    await this.options.review.split(polygon, line.coordinates);
    this.take(null);
  }

  private async grow(at: number[]): Promise<void> {
    const asked = ++this.asked;
    this.seed = at;
    const { threshold } = this.options.store.now;
    try {
      const found = await post<Grown>("api/grow", { point: at, threshold });
      if (asked !== this.asked) return;
      this.grown = found.geometry;
      this.sketch.clear();
      if (this.grown) this.sketch.addFeature(new Feature(toOl(this.grown)));
      this.hint(this.grown ? size(found, threshold) : (found.reason ?? "Nothing grows here."));
    } catch (error) {
      if (asked === this.asked) this.options.fail(error);
    }
  }

  private async keep(): Promise<void> {
    const geometry = this.grown;
    if (!geometry) return;
    this.forget();
    this.hint(HINTS.grow);
    await this.options.review.say({ kind: "drawn", polygon: null, verdict: "accept", geometry });
  }

  private forget(): void {
    this.asked++;
    this.seed = this.grown = null;
    this.sketch.clear();
  }

  private drop(): void {
    for (const { map, draw } of this.draws) map.removeInteraction(draw);
    this.draws = [];
    this.forget();
    this.element.hidden = true;
  }

  private hint(text: string): void {
    this.element.hidden = false;
    const end = this.grown
      ? [button("Keep as change", () => void this.keep(), "Enter"), button("Discard", () => (this.forget(), this.hint(HINTS.grow)))]
      : [];
    fill(this.element, h("span", {}, text), ...end, button("End", () => this.take(null), "Esc"));
  }
}

function size({ pixels, cut }: Grown, threshold: number): string {
  const edge = cut ? " It was cut at the largest reach; a higher threshold gives a smaller region." : "";
  return `${counted(pixels, "pixel")} at threshold ${threshold.toFixed(2)}; [ and ] change it.${edge}`;
}
