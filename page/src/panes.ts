/** The panes of a page: one with swipe or blink, two side by side under one view. */

import type OlMap from "ol/Map";
import type View from "ol/View";
import type BaseLayer from "ol/layer/Base";
import type { Scene } from "./api";
import { button, h } from "./dom";
import { Furniture } from "./furniture";
import type { Ground } from "./ground";
import { Pane } from "./pane";
import type { Mode, Store } from "./store";
import type { Tiles } from "./tiles";

const MODES: [Mode, string, string][] = [["swipe", "Swipe", "S"], ["blink", "Blink", "B"], ["side", "Side by side", "T"]];
const BLINK_MS = 700;
/** Part of the width that a key moves the swipe by. */
const NUDGE = 0.05;
/** Pixels of the screen at the edges of a map that bars and the card cover: top, right, bottom, left. */
const CLEAR = [96, 24, 170, 24];
/** Pixels of the screen that a pixel of the map gets at most when a polygon is visited. */
const LARGEST = 6;

type Listener = (map: OlMap) => void;

export class Panes {
  readonly element = h("div", { className: "panes" });
  readonly panes: Pane[] = [];
  private readonly made: Listener[] = [];
  private overlays: () => BaseLayer[] = () => [];
  private furniture: Furniture | null = null;
  private timer = 0;

  constructor(
    private readonly scene: Scene, private readonly ground: Ground, private readonly view: View,
    readonly tiles: Tiles, private readonly store: Store,
  ) {}

  /** What lies above the images of each pane. */
  above(overlays: () => BaseLayer[]): void {
    this.overlays = overlays;
  }

  /** Called with each map that is there or comes. */
  each(listener: Listener): void {
    this.made.push(listener);
  }

  begin(): void {
    this.add("left");
    const [first] = this.panes;
    this.furniture = new Furniture(first.map, this.ground);
    this.element.append(this.furniture.element);
    first.element.append(this.handle());
    this.store.watch(["mode"], ({ mode }) => {
      if (mode === "side" && this.panes.length === 1) this.add("right");
      this.element.dataset.mode = mode;
      for (const { map } of this.panes) map.updateSize();
      if (mode !== "blink") this.blinkAlone(false);
    });
    this.store.watch(["mode", "shown", "cut"], (now) => this.panes.forEach((pane) => pane.compare(now)));
    this.store.watch(["change", "probability", "opacity", "threshold"], (now) => this.panes.forEach((pane) => pane.paint(now)));
  }

  get maps(): OlMap[] {
    return this.panes.map(({ map }) => map);
  }

  /** Show the whole scene. */
  whole(): void {
    this.view.fit(this.scene.extent, { size: this.panes[0].map.getSize(), padding: [24, 24, 24, 24] });
  }

  /** Zoom to an extent with its surroundings, clear of what lies above the map. */
  visit([xmin, ymin, xmax, ymax]: number[]): void {
    const margin = 0.4 * Math.max(xmax - xmin, ymax - ymin);
    const surroundings = [xmin - margin, ymin - margin, xmax + margin, ymax + margin];
    this.view.cancelAnimations();
    this.view.fit(surroundings, { size: this.panes[0].map.getSize(), padding: CLEAR, minResolution: this.ground.pixel / LARGEST });
  }

  /** The other date; in another mode, first blink. */
  flip(): void {
    const { mode, shown } = this.store.now;
    this.store.set({ mode: "blink", shown: mode === "blink" && shown === "after" ? "before" : mode === "blink" ? "after" : "before" });
  }

  /** Blink without a hand on the key. */
  blinkAlone(on = !this.timer): void {
    clearInterval(this.timer);
    this.timer = on ? window.setInterval(() => this.flip(), BLINK_MS) : 0;
    if (on) this.flip();
  }

  chooseSide(): void {
    this.store.set({ mode: "side" });
  }

  upright(): void {
    this.view.animate({ rotation: 0, duration: 150 });
  }

  nudge(by: number): void {
    this.store.set({ mode: "swipe", cut: Math.min(1, Math.max(0, this.store.now.cut + by * NUDGE)) });
  }

  /** Buttons for the three ways to compare. */
  chooser(): HTMLElement {
    const buttons = MODES.map(([mode, label, key]) =>
      button(label, () => (mode === "blink" ? this.flip() : this.store.set({ mode })), key, { "data-mode": mode }));
    this.store.watch(["mode"], (now) => buttons.forEach((each) => each.setAttribute("aria-pressed", String(each.dataset.mode === now.mode))));
    return h("div", { className: "segmented", role: "group", "aria-label": "How to compare the dates" }, ...buttons);
  }

  private add(side: "left" | "right"): void {
    const pane = new Pane(side, this.scene, this.tiles, this.view, this.overlays());
    this.panes.push(pane);
    this.element.append(pane.element);
    pane.compare(this.store.now);
    pane.paint(this.store.now);
    const cross = h("div", { className: "cross", hidden: true, "aria-hidden": "true" });
    pane.element.append(cross);
    this.furniture?.follow(pane.map);
    this.made.forEach((listener) => listener(pane.map));
    pane.map.on("pointermove", (event) => this.mirror(pane, event.coordinate));
    pane.map.getViewport()?.addEventListener("pointerleave", () => this.mirror(pane, null));
  }

  /** Mark the place under the pointer in the other pane. */
  private mirror(from: Pane, at: number[] | null): void {
    for (const pane of this.panes) {
      const cross = pane.element.querySelector<HTMLElement>(".cross");
      const pixel = at && pane !== from && this.store.now.mode === "side" ? pane.map.getPixelFromCoordinate(at) : null;
      if (!cross) continue;
      cross.hidden = !pixel;
      if (pixel) cross.style.translate = `${pixel[0]}px ${pixel[1]}px`;
    }
  }

  /** The line between the dates: dragged, or moved by the arrow keys. */
  private handle(): HTMLElement {
    const line = h("div", { className: "handle", role: "slider", tabIndex: 0, "aria-label": "Swipe between the dates" }, h("span", {}, "◂ ▸"));
    line.setAttribute("aria-valuemin", "0");
    line.setAttribute("aria-valuemax", "100");
    this.store.watch(["cut"], ({ cut }) => {
      line.setAttribute("aria-valuenow", String(Math.round(cut * 100)));
      line.setAttribute("aria-valuetext", `${Math.round(cut * 100)} % before`);
    });
    line.addEventListener("pointerdown", (event) => line.setPointerCapture(event.pointerId));
    line.addEventListener("pointermove", (event) => {
      if (!line.hasPointerCapture(event.pointerId)) return;
      const { left, width } = (line.parentElement as HTMLElement).getBoundingClientRect();
      this.store.set({ cut: Math.min(1, Math.max(0, (event.clientX - left) / width)) });
    });
    line.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 4, PageDown: -4 }[event.key];
      const end = { Home: 0, End: 1 }[event.key];
      if (by === undefined && end === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      if (by) this.nudge(by);
      else this.store.set({ cut: end });
    });
    return line;
  }
}
