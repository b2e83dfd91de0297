/** Where the scene lies: its own CRS as a projection of OpenLayers, and what that means on the ground. */

import Projection from "ol/proj/Projection";
import TileGrid from "ol/tilegrid/TileGrid";
import type { Scene } from "./api";

type XY = [number, number];

/** Semi-major axis in metres and squared eccentricity of WGS84. */
const A = 6378137;
const E2 = 0.00669437999014;
const RADIANS = Math.PI / 180;

export class Ground {
  readonly projection: Projection;
  readonly grid: TileGrid;

  private readonly lattice: { rows: number; cols: number; lon: number[]; lat: number[] } | null;

  constructor(private readonly scene: Scene) {
    const known = (values: (number | null)[]): number[] => values.map((value) => value ?? NaN);
    this.lattice = scene.lonlat && { ...scene.lonlat, lon: known(scene.lonlat.lon), lat: known(scene.lonlat.lat) };
    // OpenLayers only ever compares this projection with itself, so that any CRS works, and none.
    this.projection = new Projection({ code: "scene", units: "pixels", extent: scene.extent, global: false });
    this.grid = new TileGrid({
      extent: scene.extent,
      origin: [scene.extent[0], scene.extent[3]],
      resolutions: scene.resolutions,
      tileSize: scene.tile_size,
    });
  }

  /** CRS units of one pixel of the map. */
  get pixel(): number {
    return this.scene.transform[0];
  }

  /** E.g. `EPSG:26914`, or the name of the CRS; null without one. */
  get crs(): string | null {
    const { crs } = this.scene;
    return crs && (crs.epsg === null ? (/"([^"]+)"/.exec(crs.wkt)?.[1] ?? "own CRS") : `EPSG:${crs.epsg}`);
  }

  /** Longitude and latitude (WGS84, degrees), by bilinear interpolation of the server's lattice; null without a CRS. */
  lonLat([x, y]: XY): XY | null {
    const { lattice } = this;
    if (!lattice) return null;
    const [xmin, ymin, xmax, ymax] = this.scene.extent;
    const { rows, cols, lon, lat } = lattice;
    const across = ((x - xmin) / (xmax - xmin)) * (cols - 1);
    const down = ((ymax - y) / (ymax - ymin)) * (rows - 1);
    const col = Math.min(Math.max(Math.floor(across), 0), cols - 2);
    const row = Math.min(Math.max(Math.floor(down), 0), rows - 2);
    const [u, v, first] = [across - col, down - row, row * cols + col];
    const between = (values: number[]): number =>
      (1 - v) * ((1 - u) * values[first] + u * values[first + 1]) +
      v * ((1 - u) * values[first + cols] + u * values[first + cols + 1]);
    const found: XY = [between(lon), between(lat)];
    return found.every(Number.isFinite) ? found : null;
  }

  /** Metres between two near places, on the ellipsoid; null where the ground has no metres. */
  metres(a: XY, b: XY): number | null {
    const [p, q] = [this.lonLat(a), this.lonLat(b)];
    const { metres_per_pixel: side } = this.scene;
    if (!p || !q) return side && Math.hypot(b[0] - a[0], b[1] - a[1]) * (side / this.pixel);
    const middle = ((p[1] + q[1]) / 2) * RADIANS;
    const w = 1 - E2 * Math.sin(middle) ** 2;
    const turn = ((q[0] - p[0] + 540) % 360) - 180;
    const east = (A / Math.sqrt(w)) * Math.cos(middle) * turn * RADIANS;
    const north = ((A * (1 - E2)) / w ** 1.5) * (q[1] - p[1]) * RADIANS;
    return Math.hypot(east, north);
  }

  /** Angle of true north at a place, clockwise from the map's up, in radians; null without a CRS. */
  north([x, y]: XY): number | null {
    const [, ymin, , ymax] = this.scene.extent;
    const step = (ymax - ymin) / 100;
    const [here, up] = [this.lonLat([x, y]), this.lonLat([x, y + step])];
    if (!here || !up) return null;
    const east = (up[0] - here[0]) * Math.cos(here[1] * RADIANS);
    return -Math.atan2(east, up[1] - here[1]);
  }
}

/** `1 2 5` times a power of ten, at most `value`. */
export function roundedDown(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([5, 2].find((step) => step * power <= value) ?? 1) * power;
}
