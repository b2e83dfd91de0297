/** One map: both dates, the probability above them, and what is drawn above that. Two of them stand side by side. */

import OlMap, { type MapOptions } from "ol/Map";
import type View from "ol/View";
import { defaults as interactions } from "ol/interaction/defaults";
import type BaseLayer from "ol/layer/Base";
import TileLayer from "ol/layer/Tile";
import WebGLTileLayer from "ol/layer/WebGLTile";
import type XYZ from "ol/source/XYZ";
import type { DateName, Scene } from "./api";
import { CHANGE } from "./colours";
import { h } from "./dom";
import type { Settings } from "./store";
import type { Tiles } from "./tiles";

export type Side = "left" | "right";

/** Half a step of the bytes that carry the probability. */
const HALF_STEP = 0.5 / 255;

let webGL: boolean | undefined;

/** Whether there is WebGL; to find out starts the graphics process, so it is done once. */
export function hasWebGL(): boolean {
  return (webGL ??= document.createElement("canvas").getContext("webgl") !== null);
}

function rgb(hex: string, alpha: number): number[] {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)).concat(alpha);
}

/** Probability arrives as a grey, no data as transparent; threshold and colours are the graphics card's work. */
function painted(source: XYZ): WebGLTileLayer {
  const nothing = [0, 0, 0, 0];
  const ramp = ["interpolate", ["linear"], ["band", 1], 0, rgb("#2b1a5e", 0.15), 0.25, rgb("#7a1f8f", 0.55),
    0.5, rgb("#d8456c", 0.85), 0.75, rgb("#fc9f4a", 1), 1, rgb("#fcf6b1", 1)];
  const changed = ["all", ["==", ["var", "change"], 1], [">=", ["band", 1], ["var", "threshold"]]];
  const color = ["case", ["<", ["band", 4], 0.5], nothing, changed, rgb(CHANGE, 1), ["==", ["var", "ramp"], 1], ramp, nothing];
  const style = { variables: { threshold: 0.5, change: 1, ramp: 0 }, color };
  // Tiles of images are allowed here, but for OpenLayers' types.
  return new WebGLTileLayer({ source: source as never, style });
}

/** A map that says when it is at work: `aria-busy` of its element, from the wish to draw anew to the last tile drawn. */
class TellingMap extends OlMap {
  /** Whether a frame was asked for that has not begun. */
  private due = true;

  constructor(options: MapOptions) {
    super(options);
    this.on("precompose", () => (this.due = false));
    this.on("rendercomplete", () => this.due || this.tell(false));
  }

  override render(): void {
    this.due = true;
    this.tell(true);
    super.render();
  }

  private tell(busy: boolean): void {
    this.getTargetElement()?.setAttribute("aria-busy", String(busy));
  }
}

export class Pane {
  readonly map: OlMap;
  readonly element: HTMLElement;
  private readonly raster: WebGLTileLayer | null;

  constructor(readonly side: Side, scene: Scene, tiles: Tiles, view: View, overlays: BaseLayer[]) {
    const target = h("div", { className: "map", tabIndex: 0, role: "application", "aria-busy": "true" });
    target.setAttribute("aria-label", `Map, ${side} pane. Arrow keys move it, plus and minus zoom. ? lists all keys.`);
    this.element = h("div", { className: `pane ${side}` }, target, badge("before", scene), badge("after", scene));
    this.raster =
      tiles.probability && hasWebGL() ? painted(tiles.probability) : null;
    const images = (["before", "after"] as const).flatMap((date) => {
      const source = tiles[date];
      return source ? [new TileLayer({ source, className: `${date}-layer`, preload: 1 })] : [];
    });
    const layers = [...images, ...(this.raster ? [this.raster] : []), ...overlays];
    this.map = new TellingMap({ target, view, layers, controls: [], interactions: interactions({ onFocusOnly: false }) });
  }

  /** Compare the dates; nothing is drawn anew. */
  compare({ mode, shown, cut }: Settings): void {
    this.element.dataset.mode = mode;
    this.element.dataset.shown = mode === "side" ? (this.side === "left" ? "before" : "after") : shown;
    this.element.style.setProperty("--cut", `${cut * 100}%`);
  }

  /** Paint change and probability. */
  paint({ change, probability, opacity, threshold }: Settings): void {
    if (!this.raster) return;
    this.raster.setVisible(change || probability);
    this.raster.setOpacity(opacity);
    this.raster.updateStyleVariables({
      threshold: threshold - HALF_STEP, change: change ? 1 : 0, ramp: probability ? 1 : 0,
    });
  }
}

function badge(date: DateName, scene: Scene): HTMLElement {
  const { name, path, problem } = scene.dates[date];
  const word = date === "before" ? "Before" : "After";
  return h("div", { className: `badge ${date}`, title: path }, problem ? `${word} cannot be shown` : `${word} · ${name}`);
}
