/** Verdicts and drawings: sent at once, kept in the browser until the server has them, read again every two seconds. */

import { get, post, ServerError, type Changes, type NewRow, type Row, type Verdict } from "./api";
import { keep, kept } from "./keeping";

const POLL_MS = 2000;

/** What is shown of the connection: nothing, or what went wrong and how many verdicts wait for it. */
export interface Trouble { error: ServerError; waiting: number }

export class Review {
  readonly rows = new Map<number, Row>();
  /** What the server does not have yet, oldest first. */
  waiting: NewRow[];
  trouble: Trouble | null = null;
  private revision = 0;
  private polling = false;
  private byPolygon = new Map<number, Verdict>();
  private sending: Promise<void> | null = null;

  /**
   * @param key name in the browser's storage, of this product alone
   * @param changed called after rows came, went, or could not be sent
   */
  constructor(private readonly key: string, readonly author: string, private readonly changed: () => void) {
    this.waiting = JSON.parse(kept(key) ?? "[]") as NewRow[];
  }

  /** Read all rows, send what an earlier page could not, and go on reading what other windows say. */
  async begin(): Promise<void> {
    this.arrange();
    await this.poll();
    void this.flush();
    const again = (): void => {
      // A slow server is not asked again before it has answered.
      if (!document.hidden && !this.polling) void this.poll();
    };
    window.setInterval(again, POLL_MS);
    document.addEventListener("visibilitychange", again);
  }

  /** The verdict that counts of a polygon. */
  of(id: number): Verdict | undefined {
    return this.byPolygon.get(id);
  }

  /** How many polygons have a verdict. */
  get judged(): number {
    return this.byPolygon.size;
  }

  /** Rows that count and are no plain verdicts: drawn, pieces, erased. */
  drawings(): Row[] {
    return this.counting().filter((row) => row.kind !== "judged");
  }

  private counting(): Row[] {
    const now = new Date().toISOString();
    const unsent = this.waiting.map((row, i) => ({ ...row, number: -1 - i, author: this.author, time: now, undone: null }));
    const replaced = new Set(this.waiting.flatMap((row) => row.undoing ?? []));
    return [...this.rows.values()].filter((row) => !row.undone && !replaced.has(row.number)).concat(unsent);
  }

  /** Say something: it counts at once in this page. */
  async say(row: NewRow): Promise<void> {
    // Should the answer get lost, the server knows a request that comes again.
    this.waiting.push({ ...row, request: crypto.randomUUID() });
    this.keep();
    await this.flush();
  }

  /** Send what waits, in order; what is refused or cannot be sent stays. */
  flush(): Promise<void> {
    this.sending ??= this.send().finally(() => (this.sending = null));
    return this.sending;
  }

  private async send(): Promise<void> {
    while (this.waiting.length) {
      try {
        this.take((await post<{ rows: Row[] }>("api/review", this.waiting[0])).rows);
      } catch (error) {
        this.report(error);
        return;
      }
      this.waiting.shift();
      this.trouble = null;
      this.keep();
    }
  }

  /** Give up what cannot be sent. */
  discard(): void {
    this.waiting = [];
    this.trouble = null;
    this.keep();
  }

  /** Take back the last word of this author; returns its row, or null where there is none. */
  async undo(): Promise<NewRow | null> {
    const unsent = this.sending ? undefined : this.waiting.pop();
    if (unsent) {
      if (!this.waiting.length) this.trouble = null;
      this.keep();
      return unsent;
    }
    await this.sending;
    const { number } = await post<{ number: number | null }>("api/review/undo");
    await this.poll();
    return number === null ? null : (this.rows.get(number) ?? null);
  }

  /** Take back one row. */
  async remove(number: number): Promise<void> {
    await post("api/review/undo", { number });
    await this.poll();
  }

  async poll(): Promise<void> {
    this.polling = true;
    try {
      const answer = await get<Changes>("api/review", { since: this.revision });
      this.revision = answer.revision;
      if (this.trouble?.error.status === 0) this.recovered();
      if (answer.rows.length) this.take(answer.rows);
    } catch (error) {
      this.report(error);
    } finally {
      this.polling = false;
    }
  }

  /** The server answers again. */
  private recovered(): void {
    this.trouble = null;
    if (this.waiting.length) void this.flush();
    else this.changed();
  }

  /** Rows as the server has them now. */
  take(rows: Row[]): void {
    for (const row of rows) this.rows.set(row.number, row);
    this.arrange();
  }

  private keep(): void {
    keep(this.key, this.waiting.length ? JSON.stringify(this.waiting) : null);
    this.arrange();
  }

  private arrange(): void {
    this.byPolygon.clear();
    const order = ({ number }: Row): number => (number < 0 ? 1e15 - number : number);
    const pieces = new Map<number, Verdict[]>();
    for (const { kind, polygon, verdict } of this.counting().sort((a, b) => order(a) - order(b))) {
      if (polygon === null) continue;
      // The pieces of a split polygon speak for it: it is accepted if one of them is.
      const said = kind === "judged" ? [verdict] : [...(pieces.get(polygon) ?? []), verdict];
      pieces.set(polygon, kind === "judged" ? [] : said);
      this.byPolygon.set(polygon, said.includes("accept") ? "accept" : said.includes("unsure") ? "unsure" : "reject");
    }
    this.changed();
  }

  private report(error: unknown): void {
    const known = error instanceof ServerError ? error : new ServerError(-1, `${String(error)}. Reload the page.`);
    const repeated = this.trouble?.error.message === known.message && this.trouble.waiting === this.waiting.length;
    this.trouble = { error: known, waiting: this.waiting.length };
    if (!repeated) this.changed();
  }
}
