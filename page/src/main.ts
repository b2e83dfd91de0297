/** Puts the page together: scene, panes, panel; the review of a map, or a labelling task. */

import "ol/ol.css";
import "./styles.css";
import View from "ol/View";
import { getScene, type Scene } from "./api";
import { fill, h } from "./dom";
import { Ground } from "./ground";
import * as link from "./link";
import { Panes } from "./panes";
import { startReview } from "./reviewing";
import { defaults, Store } from "./store";
import { startTask } from "./tasking";
import { applyTheme } from "./theme";
import { Tiles } from "./tiles";

async function start(): Promise<void> {
  applyTheme();
  const page = document.getElementById("page") as HTMLElement;
  try {
    const scene = await getScene();
    document.title = `${scene.name} · terradelta`;
    open(scene, page);
  } catch (error) {
    fill(page, h("div", { className: "broken", role: "alert" }, h("h1", {}, "The change map cannot be shown"), h("p", {}, String((error as Error).message))));
  }
  page.removeAttribute("aria-busy");
}

function open(scene: Scene, page: HTMLElement): void {
  const ground = new Ground(scene);
  const [xmin, ymin, xmax, ymax] = scene.extent;
  const view = new View({
    projection: ground.projection,
    center: [(xmin + xmax) / 2, (ymin + ymax) / 2],
    minResolution: ground.pixel / 24,
    maxResolution: Math.max(...scene.resolutions) * 4,
    resolution: ground.pixel,
    extent: scene.extent,
    constrainOnlyCenter: true,
  });
  const usual = defaults(scene.threshold, scene.min_area);
  const address = link.read(location.hash);
  const store = new Store({ ...usual, ...address.settings });
  const panes = new Panes(scene, ground, view, new Tiles(scene, ground), store);
  const parts = { scene, ground, view, store, panes };
  fill(page, ...(scene.task ? startTask(parts) : startReview(parts)));
  panes.begin();
  if (!link.place(view, address)) panes.whole();
  link.follow(view, store, usual);
}

void start();
