/** Verdicts and drawings: sent at once, kept in the browser until the server has them, read again every two seconds. */

import { get, post, ServerError, type Changes, type NewRow, type Row, type Verdict } from "./api";
import { Unsent, type Saying } from "./unsent";

const POLL_MS = 2000;
/** Status of what the server understands and does not take. */
const REFUSED = 422;

/** What is shown of the connection: nothing, or what went wrong and how many verdicts wait for it. */
export interface Trouble { error: ServerError; waiting: number }

export class Review {
  readonly rows = new Map<number, Row>();
  readonly unsent: Unsent;
  trouble: Trouble | null = null;
  private revision = 0;
  private polling = false;
  private byPolygon = new Map<number, Verdict>();
  private turn: Promise<unknown> = Promise.resolve();

  /**
   * @param place in the browser's storage, of this product alone
   * @param changed called after rows came, went, or could not be sent
   */
  constructor(place: string, readonly author: string, private readonly changed: () => void) {
    this.unsent = new Unsent(place, () => {
      this.settle();
      void this.poll();
    });
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
    const unsent = this.unsent.rows.map((row, i) => ({ ...row, number: -1 - i, time: now, undone: null }));
    const replaced = new Set(this.unsent.rows.flatMap((row) => row.undoing ?? []));
    return [...this.rows.values()].filter((row) => !row.undone && !replaced.has(row.number)).concat(unsent);
  }

  /** Say something: it counts at once in this page. */
  say(row: NewRow): Promise<void> {
    this.unsent.add({ ...row, author: this.author });
    this.arrange();
    return this.flush();
  }

  /** Send what waits, in order; what is refused or cannot be sent stays. */
  flush(): Promise<void> {
    const rows = [...this.unsent.rows];
    return this.inTurn(() => this.send(rows));
  }

  private async send(rows: Saying[]): Promise<void> {
    try {
      for (const row of rows.filter((each) => this.unsent.rows.includes(each))) {
        this.take((await post<{ rows: Row[] }>("api/review", row)).rows);
        this.unsent.remove(row);
        this.trouble = null;
        this.arrange();
      }
    } catch (error) {
      this.report(error);
    }
  }

  /** What writes reaches the server in the order in which it was asked for: an undo meant for one word takes no later one. */
  private inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = this.turn.then(act);
    this.turn = mine.catch(() => null);
    return mine;
  }

  /** Give up what cannot be sent: of refused ones the first, as the server has not seen those behind it. */
  discard(): void {
    const { rows } = this.unsent;
    for (const row of this.refused ? rows.slice(0, 1) : rows) this.unsent.remove(row);
    this.trouble = null;
    this.arrange();
    void this.flush();
  }

  /** Take back the last word of this author; returns its row, or null where there is none. */
  undo(): Promise<NewRow | null> {
    const waiting = [...this.unsent.rows];
    return this.inTurn(async () => {
      const unsent = waiting.findLast((row) => this.unsent.rows.includes(row));
      if (unsent) {
        this.unsent.remove(unsent);
        this.settle();
        return unsent;
      }
      const { number } = await post<{ number: number | null }>("api/review/undo");
      await this.poll();
      return number === null ? null : (this.rows.get(number) ?? null);
    });
  }

  /** Take back one row. */
  remove(number: number): Promise<void> {
    return this.inTurn(async () => {
      await post("api/review/undo", { number });
      await this.poll();
    });
  }

  /** Cut a polygon into drawn pieces. */
  split(polygon: number | null, line: unknown): Promise<void> {
    return this.inTurn(async () => this.take((await post<{ rows: Row[] }>("api/split", { polygon, line })).rows));
  }

  async poll(): Promise<void> {
    this.polling = true;
    try {
      const answer = await get<Changes>("api/review", { since: this.revision });
      this.revision = answer.revision;
      if (this.trouble && !this.refused) this.recovered();
      if (answer.rows.length) this.take(answer.rows);
    } catch (error) {
      this.report(error);
    } finally {
      this.polling = false;
    }
  }

  /** The server answers again: send what this and closed windows have said meanwhile. */
  private recovered(): void {
    this.unsent.adopt();
    this.settle();
    void this.flush();
  }

  /** Whether something waits that the server does not take: its answer stays in sight until somebody acts. */
  private get refused(): boolean {
    return this.trouble?.error.status === REFUSED && this.unsent.rows.length > 0;
  }

  /** Where nothing waits any more, there is no trouble. */
  private settle(): void {
    if (!this.unsent.rows.length) this.trouble = null;
    this.arrange();
  }

  /** Rows as the server has them now. */
  private take(rows: Row[]): void {
    for (const row of rows) this.rows.set(row.number, row);
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

  /** Something could not be sent or read. */
  report(error: unknown): void {
    const known = error instanceof ServerError ? error : new ServerError(-1, `${String(error)}. Reload the page.`);
    const waiting = this.unsent.rows.length;
    const repeated = this.trouble?.error.message === known.message && this.trouble.waiting === waiting;
    this.trouble = { error: known, waiting };
    if (!repeated) this.changed();
  }
}
