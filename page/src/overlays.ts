/** Polygons on the map: dots where they are smaller than a finger, outlines of those in view, the chosen one, drawings. */

import type { FrameState } from "ol/Map";
import type OlMap from "ol/Map";
import Feature from "ol/Feature";
import { buffer, containsExtent, type Extent } from "ol/extent";
import type BaseLayer from "ol/layer/Base";
import Layer from "ol/layer/Layer";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { get, type Outlines, type Row } from "./api";
import { DRAWN, ERASED, type Scheme } from "./colours";
import { h } from "./dom";
import { toOl, type Geometry } from "./geometry";
import type { Polygons } from "./polygons";

/** A polygon whose sides are shorter on the screen, in pixels, is a dot. */
const DOT = 7;
/** Outlines asked for at once. */
const MOST = 2000;
const CASING = new Stroke({ color: "rgb(0 0 0 / 0.6)", width: 3.5 });

function stroked(colour: string, dash?: number[], width = 1.75): Style[] {
  return [new Style({ stroke: CASING }), new Style({ stroke: new Stroke({ color: colour, width, lineDash: dash }) })];
}

export class Overlays {
  private readonly outlines = new VectorSource({ wrapX: false });
  private readonly chosen = new VectorSource({ wrapX: false });
  private readonly drawn = new VectorSource({ wrapX: false });
  private loaded: { extent: Extent; resolution: number; whole: boolean } | null = null;
  private ids = new Set<number>();
  private styles: Style[][] = [];
  private scheme: Scheme | null = null;
  private layers: BaseLayer[] = [];
  private asked = 0;
  private visible = true;
  /** Counts what alters the dots but the view. */
  private revision = 0;

  constructor(private readonly polygons: Polygons) {}

  /** The layers of one pane; sources are shared. */
  make(): BaseLayer[] {
    const index = (feature: { getId(): number | string | undefined }): number | undefined =>
      this.polygons.place(Number(feature.getId()));
    const made = [
      new Layer({ className: "dots-layer", render: this.dots() }),
      new VectorLayer({
        source: this.outlines,
        style: (feature) => {
          const at = index(feature as Feature);
          return at === undefined || !this.listed(at) ? undefined : this.styles[this.scheme?.of(at) ?? 0];
        },
      }),
      new VectorLayer({ source: this.drawn, style: (feature) => DRAWINGS[feature.get("kind") as keyof typeof DRAWINGS] }),
      new VectorLayer({ source: this.chosen, style: CHOSEN }),
    ];
    this.layers.push(...made);
    this.show(this.visible);
    return made;
  }

  private listed(index: number): boolean {
    return this.polygons.rank(this.polygons.id[index]) !== undefined;
  }

  show(visible: boolean): void {
    this.visible = visible;
    this.layers.forEach((layer, i) => i % 4 < 2 && layer.setVisible(visible));
  }

  /** Draw anew, after another list, verdict or colouring. */
  colour(scheme: Scheme): void {
    this.scheme = scheme;
    this.revision++;
    this.styles = scheme.classes.map(({ colour, dash }) => stroked(colour, dash));
    this.layers.forEach((layer) => layer.changed());
  }

  /** Fetch the outlines that a view shows, unless they are here. */
  async look(map: OlMap): Promise<void> {
    const size = map.getSize();
    const resolution = map.getView().getResolution();
    if (!size?.every(Boolean) || !resolution) return;  // a pane that is hidden shows nothing
    const extent = map.getView().calculateExtent(size);
    const asked = ++this.asked;  // what was asked for an earlier view is not wanted any more
    const { loaded } = this;
    if (loaded?.whole && containsExtent(loaded.extent, extent) && resolution > loaded.resolution / 2.5) return;
    const wide = buffer(extent, (extent[2] - extent[0]) / 4);
    if (!this.polygons.within(wide).some((i) => !this.small(i, resolution))) return;
    const query = { bbox: wide.join(","), resolution, limit: MOST };
    const { features, total, count } = await get<Outlines>("api/polygons/geojson", query);
    if (asked !== this.asked) return;
    this.loaded = { extent: wide, resolution, whole: count === total };
    this.ids = new Set(features.map(({ id }) => id));
    this.revision++;
    this.outlines.clear(true);
    this.outlines.addFeatures(features.map(({ id, geometry }) => feature(geometry, id)));
  }

  choose(geometry: Geometry | null): void {
    this.chosen.clear(true);
    if (geometry) this.chosen.addFeature(feature(geometry));
  }

  /** `id` of the outline at a pixel of a map; the innermost where they nest. */
  outlineAt(map: OlMap, pixel: number[]): number | null {
    const ids = map.getFeaturesAtPixel(pixel, { layerFilter: (layer) => layer.getSource() === this.outlines, hitTolerance: 4 })
      .map((each) => Number(each.getId()));
    const area = (id: number): number => this.polygons.area[this.polygons.place(id) ?? 0];
    return ids.sort((a, b) => area(a) - area(b))[0] ?? null;
  }

  /** Number of the drawing at a pixel of a map. */
  drawingAt(map: OlMap, pixel: number[]): number | null {
    const [top] = map.getFeaturesAtPixel(pixel, { layerFilter: (layer) => layer.getSource() === this.drawn });
    return top ? Number(top.getId()) : null;
  }

  /** Show what was drawn and erased. */
  drawings(rows: Row[]): void {
    this.drawn.clear(true);
    this.drawn.addFeatures(rows.flatMap((row) => (row.geometry ? [feature(row.geometry, row.number, rowKind(row))] : [])));
  }

  private small(index: number, resolution: number): boolean {
    const { xmin, ymin, xmax, ymax } = this.polygons;
    return Math.max(xmax[index] - xmin[index], ymax[index] - ymin[index]) < DOT * resolution;
  }

  /** Dots straight from the columns: ten thousand cost a few milliseconds, and are drawn anew only where they moved. */
  private dots(): (frame: FrameState) => HTMLElement {
    const canvas = document.createElement("canvas");
    // Into a bare canvas OpenLayers would draw the next layers, too, and wipe nothing.
    const box = h("div", { className: "dots" }, canvas);
    let shown = "";
    return (frame) => {
      const [width, height] = frame.size;
      const ratio = frame.pixelRatio;
      const wanted = [width, height, ratio, ...frame.coordinateToPixelTransform, this.revision].join();
      if (wanted === shown) return box;
      shown = wanted;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
      }
      const context = canvas.getContext("2d");
      if (!context) return box;
      context.save();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      this.paint(context, frame);
      context.restore();
      return box;
    };
  }

  private paint(context: CanvasRenderingContext2D, frame: FrameState): void {
    const [a, b, c, d, e, f] = frame.coordinateToPixelTransform;
    const { resolution } = frame.viewState;
    const classes: Path2D[] = this.styles.map(() => new Path2D());
    const { xmin, ymin, xmax, ymax, id } = this.polygons;
    const { scheme } = this;
    if (!scheme) return;
    for (const i of this.polygons.order) {
      if (!this.small(i, resolution) && this.ids.has(id[i])) continue;
      const [x, y] = [(xmin[i] + xmax[i]) / 2, (ymin[i] + ymax[i]) / 2];
      const [left, top] = [a * x + c * y + e, b * x + d * y + f];
      if (left < -5 || top < -5 || left > frame.size[0] + 5 || top > frame.size[1] + 5) continue;
      classes[scheme.of(i)].rect(left - 2.5, top - 2.5, 5, 5);
    }
    context.lineWidth = 1.5;
    context.strokeStyle = "rgb(0 0 0 / 0.65)";
    classes.forEach((path, i) => {
      context.fillStyle = scheme.classes[i].colour;
      context.stroke(path);
      context.fill(path);
    });
  }
}

function rowKind(row: Row): keyof typeof DRAWINGS {
  return row.kind === "erased" || row.verdict === "reject" ? "erased" : row.verdict === "unsure" ? "unsure" : "drawn";
}

function feature(geometry: Geometry, id?: number, kind?: string): Feature {
  const made = new Feature({ geometry: toOl(geometry), kind });
  if (id !== undefined) made.setId(id);
  return made;
}

const filled = (styles: Style[], colour: string): Style[] => [new Style({ fill: new Fill({ color: colour }) }), ...styles];
const DRAWINGS = {
  drawn: filled(stroked(DRAWN), "rgb(92 214 255 / 0.18)"),
  unsure: filled(stroked("#c5a3ff", [2, 4]), "rgb(197 163 255 / 0.15)"),
  erased: filled(stroked(ERASED, [6, 5]), "rgb(20 20 20 / 0.35)"),
};
const CHOSEN = [
  new Style({ stroke: new Stroke({ color: "rgb(0 0 0 / 0.75)", width: 7 }) }),
  new Style({ stroke: new Stroke({ color: "#ffffff", width: 3.5 }) }),
];
