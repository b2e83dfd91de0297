/** Everything by keyboard, and the overlay that lists it. */

import { h } from "./dom";

export interface Key {
  /** As `KeyboardEvent.key` in lower case, or `Shift+…` before it. */
  keys: string[];
  /** As it is shown. */
  shown: string;
  group: string;
  does: string;
  run: () => void;
}

/** Let keys act, but where somebody types. */
export function listen(keys: () => Key[]): void {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event)) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shifted = event.shiftKey && /^[a-z]$/.test(name) ? `Shift+${name}` : name;
    const key = keys().find((each) => each.keys.includes(shifted));
    if (!key) return;
    event.preventDefault();
    key.run();
  });
}

function typing(event: KeyboardEvent): boolean {
  const at = event.target as HTMLElement;
  if (document.querySelector("dialog[open]") && event.key !== "?") return true;
  if (at instanceof HTMLInputElement) return at.type === "number" || (at.type === "range" && /^(Arrow|Home|End|Page)/.test(event.key));
  if (at instanceof HTMLSelectElement || at instanceof HTMLTextAreaElement) return true;
  return at instanceof HTMLButtonElement && (event.key === "Enter" || event.key === " ");
}

/** A dialog that lists all keys. */
export function helpDialog(keys: Key[]): HTMLDialogElement {
  const groups = [...new Set(keys.map(({ group }) => group))];
  const rows = (group: string): HTMLElement[] =>
    keys.filter((key) => key.group === group).map((key) =>
      h("div", { className: "key" }, h("dt", {}, ...key.shown.split(" ").map((part) => h("kbd", {}, part))), h("dd", {}, key.does)));
  return dialog("Keys", ...groups.map((group) => h("section", {}, h("h3", {}, group), h("dl", {}, ...rows(group)))),
    h("section", {}, h("h3", {}, "Map"),
      h("dl", {},
        line("← → ↑ ↓", "move the map, when it has the focus"), line("+ −", "zoom"),
        line("Shift drag", "zoom to a rectangle"), line("Alt Shift drag", "turn the map; N turns it back"))));
}

function line(shown: string, does: string): HTMLElement {
  return h("div", { className: "key" }, h("dt", {}, ...shown.split(" ").map((part) => h("kbd", {}, part))), h("dd", {}, does));
}

/** A dialog that Esc, its button and a click beside it close. */
export function dialog(title: string, ...children: HTMLElement[]): HTMLDialogElement {
  const made: HTMLDialogElement = h("dialog", { "aria-label": title });
  const close = h("button", { type: "button", className: "close", onclick: () => made.close() }, "Close");
  made.append(h("header", {}, h("h2", {}, title), close), h("div", { className: "body" }, ...children));
  made.addEventListener("click", (event) => event.target === made && made.close());
  made.addEventListener("close", () => made.remove());
  document.body.append(made);
  made.showModal();
  return made;
}
