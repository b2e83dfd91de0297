/** Export, and teaching a model with what was judged. */

import { fetched, type Scene } from "./api";
import { button, h } from "./dom";
import { dialog } from "./keys";
import { counted } from "./words";

/** The areas of many polygons take their time. */
const EXPORT_MS = 600_000;

/** Save what the server makes of the accepted changes as a file. */
async function save(format: "gpkg" | "geojson", name: string): Promise<void> {
  offer(await fetched(`api/export.${format}`, (response) => response.blob(), {}, EXPORT_MS), `${name}-accepted.${format}`);
}

/** Let the browser save something under a name. */
export function offer(content: Blob, name: string): void {
  const link = h("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function exportDialog(scene: Scene, fail: (error: unknown) => void): void {
  const one = (format: "gpkg" | "geojson", label: string): HTMLElement =>
    button(label, () => void save(format, scene.name).then(() => shown.close(), (error: unknown) => (shown.close(), fail(error))));
  const shown = dialog("Export the accepted changes",
    h("p", {}, "Accepted polygons and what was drawn, with author and time. The map's own files are never altered."),
    h("div", { className: "choices" }, one("gpkg", "GeoPackage"), one("geojson", "GeoJSON")));
}

export function teachDialog(scene: Scene, judged: number, drawn: number): void {
  const run = scene.commands.teach?.split(" ").at(-1);
  const command = h("code", { tabIndex: 0 }, scene.commands.teach ?? "");
  const copy = button("Copy", () => void copied(scene.commands.teach ?? "", copy));
  dialog("Try again with what I taught",
    h("p", {}, `${counted(judged, "judged polygon")} and ${counted(drawn, "drawing")} become labels: accepted is changed, rejected and its surroundings are unchanged. ` +
      "This command trains the model on them, and says whether it got better on verdicts that it did not see:"),
    h("div", { className: "command" }, command, copy),
    ...(scene.commands.weights ? [h("p", {}, scene.commands.weights)] : []),
    h("p", { className: "muted" }, "Run it where terradelta is installed with the extra [train]; then map the pair again with ",
      h("code", {}, `--model ${run}`), "."));
}

async function copied(text: string, from: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
  } catch {
    from.textContent = "Select it and press Ctrl C";
  }
}
