/** GeoJSON's geometries as far as the page meets them, to and from OpenLayers. */

import type OlGeometry from "ol/geom/Geometry";
import LineString from "ol/geom/LineString";
import MultiPolygon from "ol/geom/MultiPolygon";
import Polygon from "ol/geom/Polygon";

type Place = number[];
export type Geometry =
  | { type: "Polygon"; coordinates: Place[][] }
  | { type: "MultiPolygon"; coordinates: Place[][][] }
  | { type: "LineString"; coordinates: Place[] };

export function toOl(geometry: Geometry): Polygon | MultiPolygon | LineString {
  if (geometry.type === "MultiPolygon") return new MultiPolygon(geometry.coordinates);
  return geometry.type === "LineString" ? new LineString(geometry.coordinates) : new Polygon(geometry.coordinates);
}

export function fromOl(geometry: OlGeometry): Geometry {
  if (geometry instanceof Polygon) return { type: "Polygon", coordinates: geometry.getCoordinates() };
  if (geometry instanceof MultiPolygon) return { type: "MultiPolygon", coordinates: geometry.getCoordinates() };
  if (geometry instanceof LineString) return { type: "LineString", coordinates: geometry.getCoordinates() };
  throw new TypeError(`${geometry.getType()} cannot be sent`);
}
