/** The page of a review: the list, the card, the verdicts and the tools, wired to the map. */

import type OlMap from "ol/Map";
import { get, getScene, ServerError, type Row, type Verdict } from "./api";
import { Card, type Fields } from "./card";
import { scheme } from "./colours";
import { exportDialog, offer, teachDialog } from "./dialogs";
import { announce, button, fill, h, quiet } from "./dom";
import type { Geometry } from "./geometry";
import { helpDialog, listen, type Key } from "./keys";
import { List } from "./list";
import { Overlays } from "./overlays";
import { answer, layers, Legend, listHead, tellProblems } from "./panel";
import { comparingKeys, grip, Messages, topBar, type Parts } from "./parts";
import { hasWebGL } from "./pane";
import { Polygons } from "./polygons";
import { Review } from "./review";
import { Tools, type Tool } from "./tools";
import { counted, whole } from "./words";

const DONE: Record<Verdict, string> = { accept: "accepted", reject: "rejected", unsure: "unsure" };
const THRESHOLD_STEP = 0.01;
/** The server is asked so many times, so far apart, whether the images are those that were mapped. */
const [COMPARISONS, COMPARE_MS] = [20, 3000];

export function startReview(parts: Parts): HTMLElement[] {
  const page = new ReviewPage(parts);
  setTimeout(() => void page.begin());
  return page.elements();
}

class ReviewPage {
  private readonly polygons = new Polygons();
  private readonly overlays = new Overlays(this.polygons);
  private readonly messages = new Messages();
  private readonly legend: Legend;
  private readonly review: Review;
  private readonly list: List;
  private readonly card: Card;
  private readonly tools: Tools;
  private readonly progress = h("progress", { max: 1, value: 0, "aria-label": "Judged polygons" });
  private readonly judged = h("p", { className: "judged" });
  private readonly empty = h("p", { className: "empty muted" });
  private readonly problems = h("div", { role: "alert" });
  private readonly toolbar = h("div", { className: "segmented tools", role: "group", "aria-label": "Draw" });
  /** Number of the chosen drawing. */
  private drawing: number | null = null;
  private fields: Fields | null = null;
  /** Of the next drawing, as the browser counts it; 0: none is due. */
  private frame = 0;
  private stale = true;
  private readonly keys: Key[];
  /** Whether there is a file of polygons, without which nothing can be listed or judged. */
  private readonly outlined: boolean;

  constructor(private readonly parts: Parts) {
    const { scene, store, panes } = parts;
    const unit = scene.area_unit;
    this.outlined = !scene.missing.includes("change.gpkg");
    if (this.outlined) this.polygons.ask(scene.fields, `area_${scene.area_unit}`);
    this.review = new Review(`terradelta.unsent ${scene.out} ${scene.created} `, scene.author, () => this.redraw());
    const step = (by: number): void => this.step(by);
    this.list = new List({ polygons: this.polygons, unit, said: (id) => this.review.of(id), choose: (id) => this.choose(id), step });
    this.card = new Card({
      polygons: this.polygons, review: this.review, unit, step, judge: (verdict) => void this.judge(verdict),
      split: () => this.tools.take("split"), remove: (row) => void this.remove(row),
    });
    this.legend = new Legend(store);
    this.tools = new Tools({
      maps: () => panes.maps, store, review: this.review, fail: (error) => this.messages.fail(error),
      selected: () => store.now.selected, taken: (tool) => this.taken(tool),
    });
    panes.above(() => [...this.overlays.make(), this.tools.layer()]);
    panes.each((map) => this.watch(map));
    tellProblems(this.problems, scene.problems);
    this.keys = this.makeKeys();
    listen(() => this.keys);
  }

  elements(): HTMLElement[] {
    const { scene, store, panes } = this.parts;
    const help = (): void => void helpDialog(this.keys);
    const tool = (name: Tool, label: string, key: string): HTMLElement =>
      button(label, () => this.tools.take(name), key, { "data-tool": name, "aria-pressed": "false" });
    fill(this.toolbar, tool("draw", "Draw", "D"), tool("grow", "Grow", "G"), tool("erase", "Erase", "E"),
      button("Undo", () => void this.undo(), "Z"));
    return [
      h("aside", { className: "panel" },
        grip(),
        topBar(scene, help),
        h("div", { className: "scroll" }, answer(scene, this.problems), layers(scene, store, () => this.polygons.area[0] ?? 0), this.legend.element),
        h("section", { className: "listing", "aria-label": "List of polygons" }, listHead(store, this.judged), this.progress, this.empty, this.list.element),
        h("footer", {}, button("Export accepted", () => exportDialog(scene, (error) => this.messages.fail(error))),
          button("Try again with what I taught", () => teachDialog(scene, this.review.judged, this.review.drawings().length)))),
      h("main", {}, h("div", { className: "toolbar" }, panes.chooser(), this.toolbar), this.tools.element, panes.element, this.messages.element, this.card.element),
      h("div", { id: "live", className: "hidden", "aria-live": "polite" }),
    ];
  }

  async begin(): Promise<void> {
    const { store } = this.parts;
    store.watch(["outlines"], ({ outlines }) => this.overlays.show(outlines));
    store.watch(["minArea", "sort", "descending", "openOnly"], () => this.rearrange());
    store.watch(["colouring"], () => this.redraw());
    store.watch(["selected"], ({ selected }) => void this.chosen(selected));
    if (!hasWebGL()) this.messages.fail(new Error("This browser has no WebGL, so change and probability are not painted. Polygons and images are shown."));
    await Promise.all([...(this.outlined ? [this.load(), this.review.begin()] : [this.tell()]), this.compare()]);
  }

  /** Say when an image turns out not to be the one that was mapped: the server compares them meanwhile. */
  private async compare(): Promise<void> {
    let { scene } = this.parts;
    for (let left = COMPARISONS; left; left--) {
      if ([scene.dates.before, scene.dates.after].every(({ compared, problem }) => compared || problem)) return;
      await new Promise((done) => setTimeout(done, COMPARE_MS));
      scene = await getScene().catch(() => scene);
      if (scene.problems.length !== this.problems.childElementCount) tellProblems(this.problems, scene.problems);
    }
  }

  private async load(): Promise<void> {
    try {
      await this.polygons.load(() => this.rearrange());
      await this.chosen(this.parts.store.now.selected);
      this.parts.store.set({ minArea: this.parts.store.now.minArea });
    } catch (error) {
      this.fail(error, button("Try again", () => void this.load()));
    }
    this.rearrange();
  }

  private watch(map: OlMap): void {
    map.on("moveend", quiet(120, () => void this.look(map)));
    map.on("singleclick", ({ coordinate, pixel }) => {
      if (this.tools.click(coordinate)) return;
      const drawn = this.overlays.drawingAt(map, pixel);
      if (drawn !== null) return this.chooseDrawing(drawn);
      const reach = 12 * (map.getView().getResolution() ?? 1);
      const id = this.overlays.outlineAt(map, pixel) ?? this.polygons.at(coordinate as [number, number], reach);
      this.parts.store.set({ selected: id });
    });
  }

  private async look(map: OlMap): Promise<void> {
    try {
      await this.overlays.look(map);
    } catch (error) {
      this.fail(error);
    }
  }

  /** After filters or the order changed: list anew, and draw; once a frame, however often it is asked for. */
  private rearrange(): void {
    this.stale = true;
    this.redraw();
  }

  /** After verdicts or colours changed: the list keeps its order, unless it leaves judged ones out. */
  private redraw(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      if (this.stale || this.parts.store.now.openOnly) {
        this.polygons.arrange(this.parts.store.now, (id) => this.review.of(id) !== undefined);
        for (const map of this.parts.panes.maps) void this.look(map);
      }
      this.stale = false;
      this.draw();
    });
  }

  private draw(): void {
    const { scene, store } = this.parts;
    const colours = scheme(store.now.colouring, this.polygons, scene.area_unit, (id) => this.review.of(id));
    const counts = colours.classes.map(() => 0);
    for (const index of this.polygons.order) counts[colours.of(index)]++;
    this.legend.draw(colours, counts);
    this.overlays.drawings(this.review.drawings());
    this.overlays.colour(colours);
    this.list.show(store.now.selected);
    this.tell();
    this.showCard();
  }

  private tell(): void {
    const { review, polygons } = this;
    const drawn = review.drawings().length;
    this.judged.textContent = `${whole(review.judged)} of ${whole(polygons.total)} judged` + (drawn ? ` · ${drawn} drawn` : "");
    this.progress.value = polygons.total ? review.judged / polygons.total : 0;
    this.empty.hidden = polygons.order.length > 0;
    this.empty.textContent = this.whyEmpty();
    this.tellTrouble();
  }

  private tellTrouble(): void {
    const { trouble } = this.review;
    if (!trouble && !this.troubled) return;
    this.troubled = trouble !== null;
    if (!trouble) {
      this.goOn();
      return this.messages.last(null);
    }
    const { error, waiting } = trouble;
    const waits = waiting ? ` ${counted(waiting, "verdict")} ${waiting === 1 ? "is" : "are"} kept in this browser until then.` : "";
    this.messages.last(error.message + waits, ...this.cures(waiting));
  }

  /** The server answers again: ask for what could not be had meanwhile. */
  private goOn(): void {
    const { panes, store } = this.parts;
    panes.tiles.again();
    this.list.again();
    for (const map of panes.maps) void this.look(map);
    if (!this.polygons.complete) void this.load();
    else if (store.now.selected !== null && !this.fields) void this.chosen(store.now.selected);
  }

  /** What the page asks for by itself failed: that the server is away is said once, with what waits for it. */
  private fail(error: unknown, ...actions: HTMLElement[]): void {
    if (error instanceof ServerError && error.status === 0) this.review.report(error);
    else this.messages.fail(error, ...actions);
  }

  private troubled = false;

  private cures(waiting: number): HTMLElement[] {
    if (!waiting) return [];
    const file = (): void => offer(new Blob([JSON.stringify(this.review.unsent.rows, null, 1)]), "unsent-verdicts.json");
    return [button("Try again", () => void this.review.flush()), button("Save as a file", file), button("Discard", () => this.review.discard())];
  }

  private whyEmpty(): string {
    const { store } = this.parts;
    if (!this.outlined) return "Without change.gpkg nothing can be listed or judged.";
    if (this.polygons.total === 0) return "The map holds no polygon. Lower the threshold to see what comes near to change, and draw what was missed.";
    if (this.review.judged >= this.polygons.total && store.now.openOnly) return "All polygons are judged. Export the accepted ones, or try again with what you taught.";
    return "No polygon passes these filters. Lower the smallest area, or list judged ones, too.";
  }

  private choose(id: number): void {
    this.parts.store.set({ selected: id });
    const index = this.polygons.place(id);
    if (index !== undefined) this.parts.panes.visit(this.polygons.extent(index));
  }

  private async chosen(id: number | null): Promise<void> {
    const index = this.polygons.place(id);
    this.fields = null;
    if (id !== null) this.drawing = null;
    this.overlays.choose(null);
    this.list.show(id);
    this.showCard();
    if (index === undefined) return;
    try {
      const found = await get<{ properties: Fields; geometry: Geometry }>(`api/polygons/${id}`);
      if (this.parts.store.now.selected !== id) return;
      this.fields = found.properties;
      this.overlays.choose(found.geometry);
      this.showCard();
    } catch (error) {
      this.fail(error);
    }
  }

  private showCard(): void {
    const row = this.review.drawings().find(({ number }) => number === this.drawing);
    if (row) this.card.drawing(row);
    else this.card.polygon(this.polygons.place(this.parts.store.now.selected), this.fields);
  }

  private chooseDrawing(number: number): void {
    this.parts.store.set({ selected: null });
    this.drawing = number;
    this.overlays.choose(this.review.drawings().find((row) => row.number === number)?.geometry ?? null);
    this.showCard();
  }

  /** Choose the next or previous polygon of the list. */
  private step(by: number): void {
    const { order, id } = this.polygons;
    if (!order.length) return;
    const rank = this.polygons.rank(this.parts.store.now.selected);
    const to = rank === undefined ? 0 : Math.min(Math.max(rank + by, 0), order.length - 1);
    this.choose(id[order[to]]);
  }

  /** The next polygon that nobody has judged, from the chosen one on, round the end. */
  private nextOpen(): number | null {
    const { order, id } = this.polygons;
    const from = this.polygons.rank(this.parts.store.now.selected) ?? -1;
    for (let i = 1; i <= order.length; i++) {
      const next = id[order[(from + i) % order.length]];
      if (this.review.of(next) === undefined && next !== this.parts.store.now.selected) return next;
    }
    return null;
  }

  private async judge(verdict: Verdict): Promise<void> {
    const row = this.review.drawings().find(({ number }) => number === this.drawing);
    if (row) return this.judgeDrawing(row, verdict);
    const { store } = this.parts;
    const polygon = store.now.selected;
    if (polygon === null) return this.messages.fail(new Error("Choose a polygon first: click it, or press J."));
    const next = store.now.advance ? this.nextOpen() : null;
    const said = this.review.say({ kind: "judged", polygon, verdict });
    announce(`Polygon ${polygon} ${DONE[verdict]}`);
    if (next !== null) this.choose(next);
    await said;
  }

  private async judgeDrawing({ number, kind, polygon, geometry }: Row, verdict: Verdict): Promise<void> {
    if (kind !== "drawn") return;
    this.drawing = null;
    await this.review.say({ kind, polygon, verdict, geometry, undoing: [number] });
  }

  private async remove({ number }: Row): Promise<void> {
    try {
      await this.review.remove(number);
      this.drawing = null;
      this.overlays.choose(null);
      this.showCard();
    } catch (error) {
      this.messages.fail(error);
    }
  }

  private async undo(): Promise<void> {
    try {
      const row = await this.review.undo();
      announce(row ? "Taken back" : "Nothing to take back");
      if (row?.polygon && row.kind === "judged") this.choose(row.polygon);
    } catch (error) {
      this.messages.fail(error);
    }
  }

  private taken(tool: Tool | null): void {
    for (const each of this.toolbar.querySelectorAll<HTMLElement>("[data-tool]")) {
      each.setAttribute("aria-pressed", String(each.dataset.tool === tool));
    }
    this.parts.panes.element.classList.toggle("drawing", tool !== null);
  }

  private leave(): void {
    if (this.tools.tool) this.tools.take(null);
    else this.parts.store.set({ selected: null });
    if (this.drawing !== null) {
      this.drawing = null;
      this.overlays.choose(null);
      this.showCard();
    }
  }

  private makeKeys(): Key[] {
    const { store, panes } = this.parts;
    const key = (group: string, keys: string[], does: string, run: () => void, shown = keys.map(capital).join(" ")): Key =>
      ({ group, keys, does, run, shown });
    const threshold = (by: number): void =>
      store.set({ threshold: Math.min(1, Math.max(0, +(store.now.threshold + by * THRESHOLD_STEP).toFixed(2))) });
    const turn = (name: "change" | "probability" | "outlines"): void => store.set({ [name]: !store.now[name] });
    const nextOpen = (): void => {
      const next = this.nextOpen();
      if (next !== null) this.choose(next);
    };
    return [
      key("Judge", ["j"], "next polygon", () => this.step(1)),
      key("Judge", ["k"], "previous polygon", () => this.step(-1)),
      key("Judge", ["Shift+j"], "next that is not judged", nextOpen, "Shift+J"),
      key("Judge", ["a"], "accept", () => void this.judge("accept")),
      key("Judge", ["r"], "reject", () => void this.judge("reject")),
      key("Judge", ["u"], "unsure", () => void this.judge("unsure")),
      key("Judge", ["z"], "undo my last verdict", () => void this.undo()),
      ...comparingKeys(panes),
      key("Layers", ["c"], "change", () => turn("change")),
      key("Layers", ["p"], "probability", () => turn("probability")),
      key("Layers", ["o"], "polygons", () => turn("outlines")),
      key("Layers", ["["], "lower threshold", () => threshold(-1)),
      key("Layers", ["]"], "higher threshold", () => threshold(1)),
      key("Draw", ["d"], "draw a missed change", () => this.tools.take("draw")),
      key("Draw", ["g"], "grow a region from a click", () => this.tools.take("grow")),
      key("Draw", ["e"], "draw what is no change", () => this.tools.take("erase")),
      key("Draw", ["x"], "split the chosen polygon", () => this.tools.take("split")),
      key("Draw", ["Enter"], "end the drawing, keep what grew", () => this.tools.finish()),
      key("Draw", ["Backspace"], "take the last corner back", () => this.tools.back()),
      key("Draw", ["Delete"], "remove the chosen drawing", () => this.removeChosen()),
      key("Draw", ["Escape"], "put the tool away, choose nothing", () => this.leave(), "Esc"),
      key("Page", ["?"], "this list", () => void helpDialog(this.keys)),
    ];
  }

  private removeChosen(): void {
    const row = this.review.drawings().find(({ number }) => number === this.drawing);
    if (row) void this.remove(row);
  }
}

function capital(key: string): string {
  return key.length === 1 ? key.toUpperCase() : key;
}

