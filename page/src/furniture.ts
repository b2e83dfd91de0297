/** What a map needs around it: a scale bar measured on the ground, coordinates, and where north is. */

import type OlMap from "ol/Map";
import { h } from "./dom";
import { roundedDown, type Ground } from "./ground";
import { coordinates, degrees, length } from "./words";

type XY = [number, number];
const LONGEST_PX = 140;

export class Furniture {
  readonly element: HTMLElement;
  private readonly bar = h("span", { className: "bar" });
  private readonly length = h("span", { className: "length" });
  private readonly place = h("output", { className: "place" });
  private readonly arrow: HTMLButtonElement;

  constructor(private readonly map: OlMap, private readonly ground: Ground) {
    const up = (): void => map.getView().animate({ rotation: 0, duration: 150 });
    this.arrow = h("button", { type: "button", className: "north", onclick: up, title: "North; click to turn the map upright" }, "N");
    this.arrow.setAttribute("aria-label", "North arrow; turn the map upright");
    this.element = h("div", { className: "furniture" },
      h("div", { className: "scale", role: "img", "aria-label": "Scale bar" }, this.bar, this.length), this.place);
    this.element.append(this.arrow);
    map.on("postrender", () => this.measure());
    map.on("moveend", () => this.point(null));
    this.follow(map);
  }

  /** Show the place under the pointer of a map. */
  follow(map: OlMap): void {
    map.on("pointermove", (event) => this.point(event.coordinate as XY));
    map.getViewport()?.addEventListener("pointerleave", () => this.point(null));
  }

  /** Write a place; of the centre where no pointer is. */
  private point(at: XY | null): void {
    const centre = (at ?? this.map.getView().getCenter()) as XY | undefined;
    if (!centre) return;
    const { crs } = this.ground;
    const lonLat = this.ground.lonLat(centre);
    const native = crs
      ? `${coordinates(centre, this.ground.pixel)} (${crs})`
      : `column ${Math.floor(centre[0])}, row ${Math.floor(-centre[1])}`;
    this.place.textContent = `${at ? "" : "Centre: "}${native}${lonLat ? ` · ${degrees(lonLat)}` : ""}`;
  }

  private measure(): void {
    const view = this.map.getView();
    const [centre, resolution] = [view.getCenter() as XY | undefined, view.getResolution()];
    if (!centre || !resolution) return;
    const half = (LONGEST_PX / 2) * resolution;
    const [cos, sin] = [Math.cos(view.getRotation()) * half, Math.sin(view.getRotation()) * half];
    const metres = this.ground.metres([centre[0] - cos, centre[1] - sin], [centre[0] + cos, centre[1] + sin]);
    const long = metres ?? LONGEST_PX * resolution;
    const round = roundedDown(long);
    this.bar.style.width = `${(round / long) * LONGEST_PX}px`;
    this.length.textContent = metres === null ? `${round} px` : length(round);
    const north = this.ground.north(centre);
    this.arrow.hidden = north === null;
    this.arrow.style.rotate = `${(north ?? 0) + view.getRotation()}rad`;
  }
}
