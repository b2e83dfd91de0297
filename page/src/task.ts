/** A labelling task: one sample after the other, without the map's answer, and the area with its interval at the end. */

import Feature from "ol/Feature";
import type View from "ol/View";
import Polygon, { fromExtent } from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { get, post, type Interval, type Label, type Sample } from "./api";
import { announce, button, fill, h } from "./dom";
import type { Ground } from "./ground";
import { counted } from "./words";

const LABELS: [Label, string, string][] = [["changed", "Changed", "1"], ["unchanged", "Unchanged", "0"], ["unsure", "Unsure", "U"]];
/** Pixels of the screen that a pixel of the map gets at first. */
const ZOOM = 6;
const MARKER = [
  new Style({ stroke: new Stroke({ color: "rgb(0 0 0 / 0.8)", width: 5 }) }),
  new Style({ stroke: new Stroke({ color: "#ffffff", width: 2 }) }),
];

export class Task {
  readonly element = h("section", { className: "task" });
  private readonly source = new VectorSource<Feature<Polygon>>({ wrapX: false });
  private samples: Sample[] = [];
  private at = 0;
  private interval: Interval | null = null;

  constructor(private readonly view: View, private readonly ground: Ground, private readonly fail: (error: unknown) => void) {}

  layer(): VectorLayer {
    return new VectorLayer({ source: this.source, style: MARKER });
  }

  async begin(): Promise<void> {
    this.samples = (await get<{ samples: Sample[] }>("api/task")).samples;
    await this.go(Math.max(0, this.samples.findIndex(({ label }) => label === null)));
    if (this.left === 0) await this.end();
  }

  /** Give the present sample a label, and go on to the next without one. */
  async label(label: Label): Promise<void> {
    const sample = this.samples[this.at];
    if (!sample) return;
    const before = sample.label;
    sample.label = label;
    try {
      await post(`api/task/${sample.id}`, { label });
    } catch (error) {
      sample.label = before;
      this.fail(error);
      this.draw();
      return;
    }
    announce(`Sample ${this.at + 1}: ${label}`);
    this.interval = null;
    const later = this.samples.findIndex((each, i) => i > this.at && each.label === null);
    const next = later >= 0 ? later : this.samples.findIndex((each) => each.label === null);
    await (next >= 0 ? this.go(next) : this.end());
  }

  step(by: number): void {
    void this.go(Math.min(Math.max(this.at + by, 0), this.samples.length - 1));
  }

  private get left(): number {
    return this.samples.filter(({ label }) => label === null).length;
  }

  private async go(to: number): Promise<void> {
    this.at = to;
    const sample = this.samples[to];
    if (sample) {
      const half = this.ground.pixel / 2;
      const square = [sample.x - half, sample.y - half, sample.x + half, sample.y + half];
      this.source.clear(true);
      this.source.addFeature(new Feature(fromExtent(square)));
      this.view.setCenter([sample.x, sample.y]);
      const resolution = this.view.getResolution() ?? Infinity;
      if (resolution > this.ground.pixel) this.view.setResolution(this.ground.pixel / ZOOM);
    }
    this.draw();
  }

  private async end(): Promise<void> {
    try {
      this.interval = await get<Interval>("api/task/interval");
    } catch (error) {
      this.fail(error);
    }
    this.draw();
  }

  private draw(): void {
    const sample = this.samples[this.at];
    const done = this.samples.length - this.left;
    fill(this.element,
      h("h1", {}, "What is at the marked pixel?"),
      h("p", { className: "muted" }, "Judge by both dates. The map's answer is hidden, so that it cannot sway you; the order is random."),
      h("progress", { max: this.samples.length || 1, value: done, "aria-label": "Labelled samples" }),
      h("p", {}, `${done} of ${counted(this.samples.length, "sample")} labelled`),
      sample
        ? h("div", { className: "labels", role: "group", "aria-label": `Label of sample ${this.at + 1}` },
            ...LABELS.map(([label, word, key]) =>
              button(word, () => void this.label(label), key, { className: `verdict ${label}`, "aria-pressed": String(sample.label === label) })))
        : h("p", {}, "This task has no samples. Draw some: terradelta area OUT --draw 100"),
      h("div", { className: "steps" }, button("‹ Previous", () => this.step(-1), "K"),
        h("span", {}, sample ? `Sample ${this.at + 1}` : ""), button("Next ›", () => this.step(1), "J")),
      h("p", { className: "muted" }, "Unsure samples are left out of the estimate. If you leave out many, it is biased."),
      button(this.left ? "Estimate from what is labelled" : "Estimate the changed area", () => void this.end()),
      this.interval ? h("div", { className: "interval", role: "status" }, h("h2", {}, "Changed area"), ...this.interval.lines.map((line) => h("p", {}, line))) : null);
  }
}
