/** What the server says, typed, and errors that tell what to do. */

import type { Geometry } from "./geometry";

export type Verdict = "accept" | "reject" | "unsure";
export type Kind = "judged" | "drawn" | "erased";
export type Label = "changed" | "unchanged" | "unsure";

export interface Image { name: string; date: string | null }
export interface Problem { what: string; do: string }

export interface Scene {
  name: string;
  out: string;
  /** E.g. EPSG:26914; null where the images have no CRS: x is then the column, y minus the row. */
  crs: string | null;
  crs_name: string | null;
  extent: [number, number, number, number];
  width: number;
  height: number;
  tile: number;
  origin: [number, number];
  /** CRS units per pixel of the tile grid, coarsest first. */
  resolutions: number[];
  metres_per_pixel: number | null;
  /** WGS84 longitudes and latitudes of a regular lattice over the extent, row by row from the upper left. */
  lonlat: { rows: number; cols: number; lon: number[]; lat: number[] } | null;
  area_unit: "m2" | "px";
  threshold: number;
  min_area: number;
  polygons: number;
  model: { name: string; finds: string; trained_on: string; licence: string };
  answer: string[];
  doubts: string[];
  before: Image;
  after: Image;
  layers: { before: boolean; after: boolean; probability: boolean };
  problems: Problem[];
  task: { count: number; done: number } | null;
  author: string;
  commands: { teach: string };
  version: string;
}

export interface Columns {
  id: number[];
  area: number[];
  mean_probability: number[];
  max_probability: number[];
  uncertainty: number[];
  shift_explains: number[] | null;
  outline_in: (string | null)[] | null;
  xmin: number[];
  ymin: number[];
  xmax: number[];
  ymax: number[];
}

export interface Row {
  number: number;
  kind: Kind;
  polygon: number | null;
  verdict: Verdict;
  author: string;
  time: string;
  undone: string | null;
  geometry?: Geometry;
}

/** `undoing`: numbers of rows that it takes the place of. */
export interface NewRow { kind: Kind; polygon: number | null; verdict: Verdict; geometry?: Geometry; undoing?: number[] }
/** What was added or undone since an earlier revision. */
export interface Changes { revision: number; rows: Row[] }
export interface Outline { id: number; geometry: Geometry }
export interface Outlines { features: Outline[]; truncated?: boolean }
export interface Sample { id: number; x: number; y: number; label: Label | null }
export interface Interval { ready: boolean; lines: string[] }

/** An answer that is none; `do` says what helps. `status` 0: the server did not answer. */
export class ServerError extends Error {
  constructor(readonly status: number, readonly what: string, readonly todo: string) {
    super(todo ? `${what} ${todo}` : what);
  }
}

async function said(response: Response): Promise<ServerError> {
  const body = (await response.json().catch(() => ({}))) as { error?: string; do?: string };
  const what = body.error ?? `The server refused this (${response.status} ${response.statusText}).`;
  return new ServerError(response.status, what, body.do ?? "");
}

export async function fetched(path: string, options: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new ServerError(0, "The server does not answer.", "Is terradelta view still running? Start it again if not.");
  }
  if (!response.ok) throw await said(response);
  return response;
}

export async function get<T>(path: string, query: Record<string, string | number | boolean> = {}): Promise<T> {
  const words = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  return (await fetched(words.length ? `${path}?${words.join("&")}` : path)).json() as Promise<T>;
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return (await fetched(path, { method: "POST", headers, body: JSON.stringify(body) })).json() as Promise<T>;
}
