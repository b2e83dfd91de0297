/** The tiles of a scene, shared by all panes; those that fail are asked for again. */

import type ImageTile from "ol/ImageTile";
import TileState from "ol/TileState";
import XYZ from "ol/source/XYZ";
import { fetched, ServerError, type DateName, type Scene } from "./api";
import type { Ground } from "./ground";

/** Pauses before failed tiles are asked for again: each is twice the one before. */
const [FIRST_MS, LONGEST_MS] = [1000, 8000];
/** Statuses after which another try may help: no answer, too slow, too much to do; other answers are final. */
const PASSING = [0, 408, 429, 500, 502, 503, 504];

export class Tiles {
  /** Null where there is nothing to show, or nothing that may be. */
  readonly before: XYZ | null;
  readonly after: XYZ | null;
  readonly probability: XYZ | null;
  /** Called when the server does not answer, and with null when it does again. */
  told: (error: ServerError | null) => void = () => undefined;
  private readonly failed = new Set<ImageTile>();
  private pause = FIRST_MS;
  private timer = 0;
  private silent = false;

  constructor(scene: Scene, ground: Ground) {
    const open = (name: DateName | "probability"): XYZ =>
      new XYZ({
        projection: ground.projection,
        tileGrid: ground.grid,
        // Probabilities are numbers, which WebP would alter.
        url: `tiles/${name}/{z}/{x}/{y}.${name === "probability" ? "png" : "webp"}`,
        interpolate: name !== "probability",
        tileLoadFunction: (tile, source) => void this.load(tile as ImageTile, source),
        transition: 0,
        wrapX: false,
      });
    const { before, after, probability } = scene.layers;
    this.before = before ? open("before") : null;
    this.after = after ? open("after") : null;
    this.probability = probability && !scene.task ? open("probability") : null;
  }

  /** Ask at once for what failed. */
  again(): void {
    clearTimeout(this.timer);
    this.timer = 0;
    const tiles = [...this.failed];
    this.failed.clear();
    for (const tile of tiles) tile.load();  // does nothing for one that the map has let go
  }

  private async load(tile: ImageTile, source: string): Promise<void> {
    const image = tile.getImage() as HTMLImageElement;
    try {
      const content = URL.createObjectURL(await fetched(source, (response) => response.blob()));
      image.addEventListener("load", () => URL.revokeObjectURL(content), { once: true });
      image.src = content;
      this.pause = FIRST_MS;
      this.tell(null);
    } catch (error) {
      if (error instanceof ServerError && PASSING.includes(error.status)) this.keep(tile, error);
      tile.setState(TileState.ERROR);
    }
  }

  private keep(tile: ImageTile, error: ServerError): void {
    this.failed.add(tile);
    if (error.status === 0) this.tell(error);
    if (this.timer) return;
    this.timer = window.setTimeout(() => this.again(), this.pause);
    this.pause = Math.min(2 * this.pause, LONGEST_MS);
  }

  private tell(error: ServerError | null): void {
    if (this.silent === (error !== null)) return;
    this.silent = error !== null;
    this.told(error);
  }
}
