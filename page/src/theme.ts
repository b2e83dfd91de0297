/** Light or dark: as the system says, until somebody chooses. */

import { button } from "./dom";
import { keep, kept } from "./keeping";

const KEY = "terradelta.theme";

export function applyTheme(): void {
  const chosen = kept(KEY);
  const dark = chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function turnTheme(): void {
  keep(KEY, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
}

export function themeButton(): HTMLElement {
  return button("◐", turnTheme, undefined, { className: "icon", title: "Light or dark", "aria-label": "Light or dark" });
}
