/** What the server does not have yet: each in an entry of its own in the browser's storage, which all windows share. */

import type { NewRow } from "./api";
import { keep, kept, names } from "./keeping";

/** Something said; should its answer get lost, the server knows the request when it comes again. */
export interface Saying extends NewRow { author: string; request: string }

export class Unsent {
  /** Oldest first. */
  rows: Saying[] = [];
  private last = 0;

  /**
   * @param place how the names of the entries begin, of this product alone
   * @param gone called when another window has sent one of them, or taken it back
   */
  constructor(private readonly place: string, gone: () => void) {
    this.adopt();
    window.addEventListener("storage", ({ key, newValue }) => {
      const known = this.rows.find(({ request }) => key === place + request);
      if (newValue !== null || !known) return;
      this.rows = this.rows.filter((row) => row !== known);
      gone();
    });
  }

  /** Take over what other windows left: they may be closed. */
  adopt(): void {
    const known = new Set(this.rows.map(({ request }) => request));
    const others = names(this.place).flatMap((name) => {
      const row = read(name);
      return row && name === this.place + row.request && !known.has(row.request) ? [row] : [];
    });
    this.rows = [...this.rows, ...others].sort((a, b) => (a.request < b.request ? -1 : 1));
  }

  add(row: Omit<Saying, "request">): void {
    this.last = Math.max(Date.now(), this.last + 1);
    const said = { ...row, request: `${this.last}-${random()}` };
    this.rows.push(said);
    keep(this.place + said.request, JSON.stringify(said));
  }

  remove({ request }: Saying): void {
    this.rows = this.rows.filter((row) => row.request !== request);
    keep(this.place + request, null);
  }
}

function read(name: string): Saying | null {
  try {
    return JSON.parse(kept(name) ?? "null") as Saying | null;
  } catch {
    return null;
  }
}

/** 16 hexadecimal digits; `crypto.randomUUID` is missing where the page comes from another machine by http. */
function random(): string {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
