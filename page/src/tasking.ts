/** The page of a labelling task. */

import { h } from "./dom";
import { helpDialog, listen, type Key } from "./keys";
import { tellProblems } from "./panel";
import { comparingKeys, grip, Messages, topBar, type Parts } from "./parts";
import { Task } from "./task";

export function startTask(parts: Parts): HTMLElement[] {
  const { scene, view, store, panes } = parts;
  store.set({ mode: "side", change: false, probability: false, outlines: false });
  const messages = new Messages();
  const task = new Task(view, (error) => messages.fail(error));
  panes.above(() => [task.layer()]);
  panes.tiles.told = (error) => messages.last(error && error.message);
  const keys: Key[] = [
    { keys: ["1"], shown: "1", group: "Labels", does: "changed", run: () => void task.label("changed") },
    { keys: ["0"], shown: "0", group: "Labels", does: "unchanged", run: () => void task.label("unchanged") },
    { keys: ["u"], shown: "U", group: "Labels", does: "unsure", run: () => void task.label("unsure") },
    { keys: ["j"], shown: "J", group: "Labels", does: "next sample", run: () => task.step(1) },
    { keys: ["k"], shown: "K", group: "Labels", does: "previous sample", run: () => task.step(-1) },
    ...comparingKeys(panes),
    { keys: ["?"], shown: "?", group: "Page", does: "this list", run: () => void helpDialog(keys) },
  ];
  listen(() => keys);
  setTimeout(() => void task.begin().catch((error: unknown) => messages.fail(error)));
  const problems = h("div", { role: "alert" });
  tellProblems(problems, scene.problems);
  return [
    h("aside", { className: "panel" }, grip(), topBar(scene, () => void helpDialog(keys)), problems, task.element),
    h("main", {}, h("div", { className: "toolbar" }, panes.chooser()), panes.element, messages.element),
    h("div", { id: "live", className: "hidden", "aria-live": "polite" }),
  ];
}
