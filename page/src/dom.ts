/** Elements whose text is always text: nothing from a product is ever read as HTML. */

type Child = Node | string | null | undefined | false;
type Props = Record<string, unknown>;

/** An element with its properties, listeners (`onclick`), attributes (`aria-label`, `role`, `data-…`) and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false || value === null) continue;
    if (name in element && !name.includes("-") && name !== "list" && name !== "role") {
      (element as unknown as Props)[name] = value;
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => Boolean(child) || child === ""));
  return element;
}

/** Put other children into an element. */
export function fill(element: Element, ...children: Child[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => Boolean(child)));
}

/** A button with its label and, if it has one, the key that does the same. */
export function button(label: string, onclick: () => void, key?: string, props: Props = {}): HTMLButtonElement {
  const hint = key === undefined ? null : h("kbd", { "aria-hidden": "true" }, key);
  return h("button", { type: "button", onclick, "aria-keyshortcuts": key, ...props }, label, hint);
}

/** Say something to readers of the screen. */
export function announce(text: string): void {
  const live = document.getElementById("live");
  if (live) live.textContent = text;
}

/** Call a function once things have been quiet for some milliseconds. */
export function quiet<A extends unknown[]>(wait: number, call: (...args: A) => void): (...args: A) => void {
  let timer = 0;
  return (...args) => {
    clearTimeout(timer);
    timer = window.setTimeout(() => call(...args), wait);
  };
}
