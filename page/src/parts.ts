/** What the page of a review and that of a task have in common. */

import type View from "ol/View";
import type { Scene } from "./api";
import { button, fill, h } from "./dom";
import type { Ground } from "./ground";
import type { Key } from "./keys";
import type { Panes } from "./panes";
import type { Store } from "./store";
import { themeButton } from "./theme";

export interface Parts { scene: Scene; ground: Ground; view: View; store: Store; panes: Panes }

export function topBar(scene: Scene, help: () => void): HTMLElement {
  const question = button("?", help, undefined, { className: "icon", title: "Keys and help (?)", "aria-label": "Keys and help" });
  return h("header", { className: "top" }, h("span", { className: "name", title: scene.out }, scene.name), themeButton(), question);
}

/** On a phone, the panel is a sheet; this makes it higher and lower. */
export function grip(): HTMLElement {
  const made = h("button", { type: "button", className: "grip", "aria-label": "Higher or lower panel", "aria-expanded": "false" });
  made.onclick = () => made.setAttribute("aria-expanded", String(made.parentElement?.classList.toggle("up")));
  return made;
}

export function comparingKeys(panes: Panes): Key[] {
  const group = "Compare";
  return [
    { keys: ["s"], shown: "S", group, does: "swipe", run: () => panes.nudge(0) },
    { keys: [","], shown: ",", group, does: "swipe to the left", run: () => panes.nudge(-1) },
    { keys: ["."], shown: ".", group, does: "swipe to the right", run: () => panes.nudge(1) },
    { keys: ["b", " "], shown: "B Space", group, does: "blink: the other date", run: () => panes.flip() },
    { keys: ["Shift+b"], shown: "Shift+B", group, does: "blink by itself, or stop", run: () => panes.blinkAlone() },
    { keys: ["t"], shown: "T", group, does: "side by side", run: () => panes.chooseSide() },
    { keys: ["f"], shown: "F", group, does: "the whole scene", run: () => panes.whole() },
    { keys: ["n"], shown: "N", group, does: "turn the map upright", run: () => panes.upright() },
  ];
}

/** What went wrong, with what to do, until it is closed: what lasts, and below it the newest of the rest. */
export class Messages {
  readonly element = h("div", { className: "messages", role: "alert" });
  private lasting: HTMLElement | null = null;
  private newest: HTMLElement | null = null;

  fail(error: unknown, ...actions: HTMLElement[]): void {
    const text = error instanceof Error ? error.message : String(error);
    this.newest = h("div", {}, h("p", {}, text), ...actions, button("Close", () => this.drop()));
    this.draw();
  }

  /** What goes on until it is over; null: it is over. */
  last(text: string | null, ...actions: HTMLElement[]): void {
    this.lasting = text === null ? null : h("div", {}, h("p", {}, text), ...actions, button("Close", () => this.last(null)));
    this.draw();
  }

  private drop(): void {
    this.newest = null;
    this.draw();
  }

  private draw(): void {
    fill(this.element, this.lasting, this.newest);
  }
}
