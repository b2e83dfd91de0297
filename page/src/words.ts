/** Numbers as people of the field write them. */

import type { Scene } from "./api";

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function whole(value: number): string {
  return NUMBER.format(value);
}

export function counted(value: number, one: string, many = `${one}s`): string {
  return `${whole(value)} ${value === 1 ? one : many}`;
}

/** `230 m²`, `1.25 ha`, `3.40 km²`, or pixels. */
export function area(value: number, unit: Scene["area_unit"]): string {
  if (!Number.isFinite(value)) return "unknown area";
  if (unit === "px") return counted(Math.round(value), "pixel");
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} km²`;
  if (value >= 1e4) return `${(value / 1e4).toFixed(2)} ha`;
  return `${value < 10 ? value.toFixed(1) : whole(value)} m²`;
}

export function length(metres: number): string {
  return metres >= 1000 ? `${metres / 1000} km` : metres >= 1 ? `${metres} m` : `${Math.round(metres * 100)} cm`;
}

export function degrees([lon, lat]: [number, number]): string {
  const one = (value: number, [plus, minus]: [string, string]): string =>
    `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
  return `${one(lat, ["N", "S"])}, ${one(lon, ["E", "W"])}`;
}

/** Coordinates with as many decimals as a pixel of the map needs. */
export function coordinates([x, y]: [number, number], pixel: number): string {
  const decimals = Math.max(0, Math.min(7, Math.ceil(-Math.log10(pixel)) + 1));
  return `${x.toFixed(pixel >= 1 ? 0 : decimals)}, ${y.toFixed(pixel >= 1 ? 0 : decimals)}`;
}

export function probability(value: number): string {
  return Number.isFinite(value) ? value.toFixed(2) : "unknown";
}
