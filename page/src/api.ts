/** What the server says, typed, and errors that tell what to do. */

import type { Geometry } from "./geometry";

export type Verdict = "accept" | "reject" | "unsure";
export type Kind = "judged" | "drawn" | "erased";
export type DateName = "before" | "after";

interface ImageRecord { name: string; path: string; problem: string | null; difference: string | null; compared: boolean }

/** What the server says of a product; while samples are labelled, nothing of what the map says. */
interface SceneRecord {
  name: string;
  /** Path of the product. */
  out: string;
  /** When it was made. */
  created: string;
  /** Null where the images have no CRS: x is then the column, y minus the row. */
  crs: { wkt: string; epsg: number | null; unit: string } | null;
  /** x_min, y_min, x_max, y_max of all that is shown, in the CRS. */
  extent: [number, number, number, number];
  /** Of the grid that is shown: north up, square pixels. */
  width: number;
  height: number;
  transform: number[];
  tile_size: number;
  /** CRS units per pixel of the tiles, coarsest first. */
  resolutions: number[];
  metres_per_pixel: number | null;
  /** WGS84 of a regular lattice over the extent, row by row from the upper left; null where there is no such place. */
  lonlat: { rows: number; cols: number; lon: (number | null)[]; lat: (number | null)[] } | null;
  dates: Record<DateName, ImageRecord>;
  layers: Record<DateName | "probability", boolean>;
  problems: { what: string; do: string }[];
  /** Files that belong to a product and are not there. */
  missing: string[];
  author: string;
  /** What starts the server again. */
  command: string;
  task: { total: number; labelled: number } | null;
}

/** What the map says. */
interface MapRecord {
  threshold: number;
  min_area: number;
  area_unit: "m2" | "px";
  answer: string[];
  doubts: string[];
  model: { name: string; purpose: string; licence: string; weightless: boolean };
  polygons: number;
  /** Names of the columns of the polygons. */
  fields: string[];
  /** Command that trains on the verdicts; what to replace in it. */
  commands: { teach: string | null; weights: string | null };
}

export type Scene = SceneRecord & MapRecord;

const UNTOLD: MapRecord = {
  threshold: 0.5, min_area: 0, area_unit: "m2", answer: [], doubts: [], polygons: 0, fields: [], commands: { teach: null, weights: null },
  model: { name: "", purpose: "", licence: "", weightless: false },
};

export async function getScene(): Promise<Scene> {
  const told = await get<SceneRecord & Partial<MapRecord>>("api/scene");
  command = told.command;
  return { ...UNTOLD, ...told };
}

export interface Columns {
  id: number[];
  area_m2?: (number | null)[];
  area_px?: (number | null)[];
  mean_probability: (number | null)[];
  max_probability: (number | null)[];
  uncertainty: (number | null)[];
  shift_explains?: (boolean | number | null)[];
  outline_in?: (string | null)[];
  x_min: number[];
  y_min: number[];
  x_max: number[];
  y_max: number[];
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
export interface Outlines { features: { id: number; geometry: Geometry }[]; total: number; count: number }
export type Label = "changed" | "unchanged" | "unsure";
/** A place to be labelled, and the extents of its pixel and of its surroundings. */
export interface Sample { id: number; pixel: number[]; window: number[]; label: Label | null }
/** The changed area with its interval, in words. */
export interface Interval { ready: boolean; lines: string[] }

/** An answer that is none; its message says what to do. `status` 0: the server did not answer. */
export class ServerError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

async function said(response: Response): Promise<ServerError> {
  const body = (await response.json().catch(() => ({}))) as { error?: string };
  const text = body.error ?? `the server refused this (${response.status} ${response.statusText}); reload the page`;
  return new ServerError(response.status, `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`);
}

/** Command that starts the server again. */
let command = "terradelta view OUT";
/** After so long, a request counts as not answered: the server itself waits 20 s for another program that writes. */
const PATIENCE_MS = 60_000;

type Reader<T> = (response: Response) => Promise<T>;

export async function fetched<T>(path: string, read: Reader<T>, options: RequestInit = {}, patience = PATIENCE_MS): Promise<T> {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), patience);
  try {
    const response = await fetch(path, { signal: giveUp.signal, ...options });
    if (!response.ok) throw await said(response);
    return await read(response);
  } catch (error) {
    throw error instanceof ServerError ? error : new ServerError(0, `The server does not answer. Run “${command}” again, and this page goes on.`);
  } finally {
    clearTimeout(timer);
  }
}

export async function get<T>(path: string, query: Record<string, string | number | boolean> = {}): Promise<T> {
  const words = Object.entries(query).map(([key, value]) => `${key}=${encodeURIComponent(value)}`);
  return fetched<T>(words.length ? `${path}?${words.join("&")}` : path, (response) => response.json());
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  const headers = { "Content-Type": "application/json" };
  return fetched<T>(path, (response) => response.json(), { method: "POST", headers, body: JSON.stringify(body) });
}
