/** A labelling task: one sample after the other, without the map's answer, and the area with its interval at the end. */

import Feature from "ol/Feature";
import type View from "ol/View";
import { type default as Polygon, fromExtent } from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { get, post, type Interval, type Label, type Sample } from "./api";
import { announce, button, fill, h } from "./dom";
import { counted } from "./words";

const LABELS: [Label, string, string, string][] = [
  ["changed", "Changed", "1", "accept"], ["unchanged", "Unchanged", "0", "reject"], ["unsure", "Unsure", "U", "unsure"],
];
/** Pixels of the map between a sample and the square around it. */
const RING = 5;
const MARKER = [
  new Style({ stroke: new Stroke({ color: "rgb(0 0 0 / 0.8)", width: 5 }) }),
  new Style({ stroke: new Stroke({ color: "#ffffff", width: 2 }) }),
];

export class Task {
  readonly element = h("section", { className: "task" });
  private readonly source = new VectorSource<Feature<Polygon>>({ wrapX: false });
  private samples: Sample[] = [];
  private at = 0;
  private result: Interval | null = null;

  constructor(private readonly view: View, private readonly fail: (error: unknown) => void) {}

  layer(): VectorLayer {
    return new VectorLayer({ source: this.source, style: MARKER });
  }

  async begin(): Promise<void> {
    this.samples = (await get<{ samples: Sample[] }>("api/task")).samples;
    this.go(Math.max(0, this.samples.findIndex((sample) => this.isOpen(sample))));
    if (this.samples.length && !this.samples.some((sample) => this.isOpen(sample))) await this.estimate();
  }

  /** Give the present sample a label, and go on to the next without one. */
  async label(label: Label): Promise<void> {
    const sample = this.samples[this.at];
    if (!sample) return;
    try {
      await post(`api/task/${sample.id}`, { label });
    } catch (error) {
      return this.fail(error);
    }
    sample.label = label;
    this.result = null;
    announce(`Sample ${this.at + 1}: ${label}`);
    const later = this.samples.findIndex((each, i) => i > this.at && this.isOpen(each));
    const next = later >= 0 ? later : this.samples.findIndex((each) => this.isOpen(each));
    if (next >= 0) this.go(next);
    else await this.estimate();
  }

  step(by: number): void {
    this.go(Math.min(Math.max(this.at + by, 0), this.samples.length - 1));
  }

  private isOpen({ label }: Sample): boolean {
    return label === null;
  }

  private go(to: number): void {
    this.at = to;
    const sample = this.samples[to];
    if (sample) {
      this.source.clear(true);
      this.source.addFeatures([sample.pixel, ring(sample.pixel)].map((extent) => new Feature(fromExtent(extent))));
      this.view.fit(sample.window);
    }
    this.draw();
  }

  private async estimate(): Promise<void> {
    try {
      this.result = await get<Interval>("api/task/interval");
    } catch (error) {
      this.fail(error);
    }
    this.draw();
  }

  private draw(): void {
    const sample = this.samples[this.at];
    const labelled = this.samples.filter((each) => !this.isOpen(each)).length;
    const unsure = this.samples.filter(({ label }) => label === "unsure").length;
    const open = this.samples.some((each) => this.isOpen(each));
    fill(this.element,
      h("h1", {}, "What happened at the marked pixel?"),
      h("p", { className: "muted" }, "Judge by both dates. What the map says is hidden, so that it cannot sway you, and the order is random."),
      h("progress", { max: this.samples.length || 1, value: labelled, "aria-label": "Labelled samples" }),
      h("p", { className: "judged" }, `${labelled} of ${counted(this.samples.length, "sample")} labelled${unsure ? `, ${unsure} unsure` : ""}`),
      sample ? this.labels(sample) : h("p", {}, "There are no samples in this file. Draw some with `terradelta area`."),
      h("div", { className: "steps" }, button("‹ Previous", () => this.step(-1), "K"),
        h("span", {}, sample ? `Sample ${this.at + 1}` : ""), button("Next ›", () => this.step(1), "J")),
      h("p", { className: "muted" }, "Unsure samples are left out of the estimate. If they are many, it is biased."),
      open
        ? h("p", { className: "muted" }, "The changed area with its interval comes when all are labelled: to stop when a result looks right makes it wrong.")
        : button("Estimate the changed area", () => void this.estimate()),
      this.result ? interval(this.result) : null);
  }

  private labels(sample: Sample): HTMLElement {
    return h("div", { className: "labels", role: "group", "aria-label": `Label of sample ${this.at + 1}` },
      ...LABELS.map(([label, word, key, look]) =>
        button(word, () => void this.label(label), key, { className: `verdict ${look}`, "aria-pressed": String(sample.label === label) })));
  }
}

/** A square around a pixel that is easier to find. */
function ring([xmin, ymin, xmax, ymax]: number[]): number[] {
  const [dx, dy] = [RING * (xmax - xmin), RING * (ymax - ymin)];
  return [xmin - dx, ymin - dy, xmax + dx, ymax + dy];
}

function interval({ ready, lines }: Interval): HTMLElement {
  return h("div", { className: "interval", role: "status" }, h("h2", {}, ready ? "Changed area" : "No interval yet"), ...lines.map((line) => h("p", {}, line)));
}
