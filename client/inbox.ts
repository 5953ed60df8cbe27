/**
 * What was read, verified and stored, and not yet acknowledged by the app: pages of entries, in the
 * order of their positions.
 *
 * Pages that were read by this process are kept open; those of an earlier one are opened when they
 * are handed out. Acknowledgements move in memory and are written with whatever is written next, at
 * the latest a moment later, so that none costs a write of its own.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Entry as EntryMessage } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { InboxPageSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { StoredBlob } from "../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, equalBytes } from "../wire/bytes.ts";
import { encodeStoredBlobField } from "../wire/hot-encoders.ts";
import { idText } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import { decode, decodeOwn, encodeLog, type LogPlace } from "./disk.ts";
import { decodeEntry, openBody } from "./seal/blob.ts";
import { decodeHeader } from "./seal/header.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";
import type { Entry } from "./types.ts";

/** How long an acknowledgement may wait for the disk, in milliseconds. */
const acknowledgeMsMax = 50;

/** An entry's blob and, once opened, what was in it. */
export interface InboxItem {
  readonly stored: StoredBlob;
  readonly seq: number;
  readonly opened: EntryMessage | undefined;
}

interface Page {
  readonly first: number;
  /** Its entries stand before others that were read earlier. */
  readonly late: boolean;
  readonly through: number;
  items: readonly InboxItem[];
  opened: boolean;
}

/** A page as it will be written: positions follow those given out so far. */
export function encodePage(
  first: number,
  items: readonly InboxItem[],
  through: number,
): Uint8Array {
  // The hot encoder writes a blob as field 3 of `Blobs`; here it is field 2, and only the tag differs.
  const fields = items.map(({ stored }) => {
    const field = encodeStoredBlobField({
      cursor: Number(stored.cursor),
      sender: stored.sender,
      bodyState: stored.bodyState,
      blobId: stored.blob?.blobId ?? none,
      header: stored.blob?.header ?? none,
      signature: stored.blob?.signature ?? none,
      epoch: Number(stored.blob?.epoch ?? 0n),
      body: stored.blob?.body ?? none,
    });
    field[0] = 0x12;
    return field;
  });
  const frame = toBinary(
    InboxPageSchema,
    create(InboxPageSchema, { firstPosition: BigInt(first), through: BigInt(through) }),
  );
  return concatBytes(frame, ...fields);
}

const none = new Uint8Array(0);

export class Inbox {
  readonly #core: Core;
  readonly #bound: number;
  #pages: Page[] = [];
  /** Positions acknowledged out of their order. */
  readonly #early = new Set<number>();
  readonly #waiting = new Set<() => void>();
  /** The texts of members' ids, by the ids' first bytes. */
  readonly #senders = new Map<number, { readonly id: Uint8Array; readonly text: string }[]>();
  /** Up to here the app says that it has applied everything. */
  #appliedByApp = 0;
  /** Rows below this position can go. */
  #deletable = 0;
  #deleted = 0;
  #dirty = false;
  #cancelTimer: (() => void) | undefined;
  #writing: Promise<void> | undefined;
  #closed = false;
  #holds = 0;
  /** The first refused cursor: applied stays below it. */
  firstRefused: () => number | undefined = () => undefined;
  /** There is room again. */
  drained: () => void = () => undefined;
  /** The disk has a new applied cursor. */
  applied: () => void = () => undefined;

  constructor(core: Core, bound: number) {
    this.#core = core;
    this.#bound = bound;
  }

  /** Takes the pages that an earlier process left. */
  async load(tx: StateTransaction): Promise<void> {
    const { acknowledged } = this.#core.app;
    for (const row of await tx.range("inbox", 0)) {
      const page = decode(() => fromBinary(InboxPageSchema, row.value));
      const first = Number(page.firstPosition);
      if (first + page.blobs.length - 1 <= acknowledged) {
        this.#deletable = first + page.blobs.length;
        continue;
      }
      this.#pages.push({
        first,
        through: Number(page.through),
        opened: false,
        // What was made good later ends below the page before it.
        late: Number(page.through) < (this.#pages.at(-1)?.through ?? 0),
        items: page.blobs.map((stored) => ({
          stored,
          seq: decode(() => decodeHeader(stored.blob?.header ?? none)).seq,
          opened: undefined,
        })),
      });
    }
    this.#moveApplied();
  }

  /** Entries that wait for the app. */
  get count(): number {
    return this.#core.log.position - this.#core.app.acknowledged;
  }

  /** Everything up to here was applied, as of now. */
  get appliedCursor(): number {
    return this.#appAt(this.#core.log).applied;
  }

  /** Whether so many wait that reading pauses. */
  get full(): boolean {
    return this.count >= this.#bound;
  }

  /** A page is on disk: hands it out. Called with the log place already moved on. */
  add(first: number, items: readonly InboxItem[], through: number): void {
    const late = through < this.#core.log.read;
    if (items.length > 0) this.#pages.push({ first, through, items, opened: true, late });
    this.acknowledgeThrough(this.#appliedByApp);
    this.#moveApplied();
    this.wake();
  }

  /**
   * Writes where the app stands, with the log, and lets go what it has done with. `refused` is the
   * lowest cursor among what is refused in the same transaction.
   */
  write(tx: StateTransaction, log: LogPlace, refused = Number.POSITIVE_INFINITY): () => void {
    const app = this.#appAt(log, refused);
    const deletable = this.#deletable;
    tx.put("log", "state", encodeLog(log, app));
    if (deletable > this.#deleted) tx.deleteRange("inbox", this.#deleted, deletable);
    const { acknowledged } = app;
    return () => {
      this.#deleted = Math.max(this.#deleted, deletable);
      if (acknowledged === this.#core.app.acknowledged) this.#dirty = false;
      this.#moveApplied();
      this.applied();
    };
  }

  /**
   * The log goes on behind a snapshot; with `restored`, the app's state is that one, and what waited
   * for it goes. Written with the log.
   */
  replaced(tx: StateTransaction, log: LogPlace, restored: boolean): () => void {
    if (!restored) return this.write(tx, log);
    const app = { acknowledged: log.position, applied: log.read };
    tx.put("log", "state", encodeLog(log, app));
    tx.deleteRange("inbox", 0);
    return () => {
      this.#pages = [];
      this.#early.clear();
      this.#deletable = log.position + 1;
      this.#deleted = log.position + 1;
      this.#dirty = false;
      this.#core.app = app;
      this.drained();
      this.applied();
      this.wake();
    };
  }

  /** Hands out nothing until what this returns is called: the app's state is being given or taken over. */
  hold(): () => void {
    this.#holds += 1;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#holds -= 1;
      this.wake();
    };
  }

  get held(): boolean {
    return this.#holds > 0;
  }

  /** The cursors of stored pages belong to a log that is gone. */
  forgetCursors(tx: StateTransaction): () => void {
    const pages = this.#pages.map((page) => ({
      ...page,
      through: 0,
      items: page.items.map((item) => ({ ...item, stored: { ...item.stored, cursor: 0n } })),
    }));
    for (const page of pages) tx.put("inbox", page.first, encodePage(page.first, page.items, 0));
    return () => {
      this.#pages = pages;
    };
  }

  /** Everything up to a position counts as acknowledged, also what is yet to be read. */
  acknowledgeThrough(position: number): void {
    const { app, log } = this.#core;
    // The app may have gone further than this device's state, where that is an older copy.
    this.#appliedByApp = Math.max(this.#appliedByApp, position);
    const acknowledged = Math.min(position, log.position);
    if (acknowledged <= app.acknowledged) return;
    this.#core.app = { ...app, acknowledged };
    this.#dirty = true;
    this.#settle();
  }

  /**
   * The page that holds the first entry at or behind a position; waits for none. Opens it where it
   * was stored by an earlier process.
   */
  async page(position: number): Promise<Page | undefined> {
    const page = this.#pages[this.#indexOf(position)];
    if (page === undefined || page.opened) return page;
    page.items = await this.#open(page.items);
    page.opened = true;
    return page;
  }

  /** The place of the first page that ends at or behind a position. */
  #indexOf(position: number): number {
    let low = 0;
    let high = this.#pages.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const page = this.#pages[middle] as Page;
      if (page.first + page.items.length <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The entry of a page at a place, as the app gets it. */
  entry(page: Page, index: number): Entry {
    const item = page.items[index] as InboxItem;
    return new InboxEntry(
      this,
      page.first + index,
      item,
      this.senderText(item.stored.sender),
      this.#core.deviceText,
    );
  }

  isAcknowledged(position: number): boolean {
    return position <= this.#core.app.acknowledged || this.#early.has(position);
  }

  acknowledge(position: number): void {
    const { app } = this.#core;
    if (position !== app.acknowledged + 1) {
      if (position > app.acknowledged) this.#early.add(position);
      return;
    }
    let acknowledged = position;
    while (this.#early.size > 0 && this.#early.delete(acknowledged + 1)) acknowledged += 1;
    this.#core.app = { ...app, acknowledged };
    if (!this.#dirty) {
      this.#dirty = true;
      this.#cancelTimer ??= this.#core.host.setTimer(acknowledgeMsMax, () => this.#writeSoon());
    }
    const first = this.#pages[0];
    if (first !== undefined && acknowledged >= first.first + first.items.length - 1) this.#settle();
  }

  /** Resolves when something may have changed: a page, the end, or whatever else calls `wake`. */
  changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.add(resolve));
  }

  wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  /** Writes what was acknowledged and not written. Every caller before it is done shares one write. */
  flush(): Promise<void> {
    if (this.#writing !== undefined) return this.#writing;
    if (!this.#dirty) return Promise.resolve();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#writing = this.#core.disk
      .write(
        (tx) => this.write(tx, this.#core.log),
        (written) => written(),
      )
      .then(() => undefined)
      .finally(() => {
        this.#writing = undefined;
        if (this.#dirty && !this.#closed) {
          this.#cancelTimer ??= this.#core.host.setTimer(acknowledgeMsMax, () => this.#writeSoon());
        }
      });
    return this.#writing;
  }

  get #unsettled(): boolean {
    return this.#writing !== undefined || this.#dirty;
  }

  /** Resolves when everything that was acknowledged is on disk, also what was while that was written. */
  async settled(): Promise<void> {
    while (this.#unsettled) await this.flush();
  }

  async close(): Promise<void> {
    // Where nothing is being written it is closed at once: who asks next must not wait for more.
    if (this.#unsettled) await this.settled();
    this.#closed = true;
    this.#cancelTimer?.();
    this.wake();
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * An id's text; computing it costs more than anything else about an entry, so members' are kept.
   * Not a stranger's: a relay could invent any number.
   */
  senderText(id: Uint8Array): string {
    const key = id.byteLength < 4 ? 0 : new DataView(id.buffer, id.byteOffset).getUint32(0);
    const senders = this.#senders.get(key);
    for (const sender of senders ?? []) if (equalBytes(sender.id, id)) return sender.text;
    const text = idText(id);
    if (this.#core.chain?.devices.has(text) === true) {
      // A copy: an id as it came keeps the record alive that it came in.
      const sender = { id: Uint8Array.from(id), text };
      if (senders === undefined) this.#senders.set(key, [sender]);
      else senders.push(sender);
    }
    return text;
  }

  #writeSoon(): void {
    this.#cancelTimer = undefined;
    this.flush().catch((error: unknown) => {
      if (error instanceof StateStoreError) this.#core.failed(error);
      else throw error;
    });
  }

  /** Lets pages go that are wholly acknowledged, and moves the applied cursor. */
  #settle(): void {
    const { acknowledged } = this.#core.app;
    const wasFull = this.#core.log.position - acknowledged;
    let done = 0;
    for (const page of this.#pages) {
      if (page.first + page.items.length - 1 > acknowledged) break;
      this.#deletable = page.first + page.items.length;
      done += 1;
    }
    if (done > 0) this.#pages.splice(0, done);
    this.#moveApplied();
    if (wasFull < this.#bound) this.drained();
    if (this.#pages.length === 0) this.#writeSoonest();
    this.#core.moved();
  }

  #writeSoonest(): void {
    if (this.#dirty && this.#writing === undefined) this.#writeSoon();
  }

  #moveApplied(): void {
    this.#core.app = this.#appAt(this.#core.log);
  }

  #appAt(
    log: LogPlace,
    refusedNow = Number.POSITIVE_INFINITY,
  ): { acknowledged: number; applied: number } {
    const { acknowledged } = this.#core.app;
    const page = this.#pages[0];
    let applied = log.read;
    if (page !== undefined && acknowledged < log.position) {
      const item = page.items[Math.max(0, acknowledged + 1 - page.first)];
      // An entry of an earlier log has cursor 0, and holds everything back until it is applied.
      applied = Number(item?.stored.cursor ?? 0n) - 1;
      for (const late of this.#pages) {
        if (late.late) applied = Math.min(applied, Number(late.items[0]?.stored.cursor ?? 1n) - 1);
      }
      applied = Math.max(0, applied);
    }
    // A page that is being written: nothing of it was applied, whatever the log has read.
    if (page === undefined && acknowledged < log.position) applied = this.#core.app.applied;
    const refused = Math.min(this.firstRefused() ?? Number.POSITIVE_INFINITY, refusedNow);
    return { acknowledged, applied: Math.min(applied, refused - 1) };
  }

  async #open(items: readonly InboxItem[]): Promise<InboxItem[]> {
    const core = this.#core;
    // An own blob that was delivered without its body: the entry stands among the own ones.
    const seqs = items.filter(isOwnDelivered).map((item) => item.seq);
    const own = new Map<number, Uint8Array>();
    if (seqs.length > 0) {
      await core.disk.write(async (tx) => {
        for (const row of await tx.range("own", Math.min(...seqs), Math.max(...seqs) + 1)) {
          own.set(row.key, decodeOwn(row.value).entry);
        }
      });
    }
    return items.map((item) => {
      if (isOwnDelivered(item)) {
        const entry = own.get(item.seq);
        if (entry === undefined) throw damaged();
        return { ...item, opened: decode(() => decodeEntry(entry)) };
      }
      const { blob, sender } = item.stored;
      const bodyKey = core.chain?.keyring.bodyKey(Number(blob?.epoch ?? 0n));
      if (blob === undefined || bodyKey === undefined) throw damaged();
      const header = decodeHeader(blob.header);
      return {
        ...item,
        opened: decode(() => openBody(blob, header, { groupId: core.groupId, sender, bodyKey })),
      };
    });
  }
}

/** Epochs count from 1: 0 marks a blob whose body this device kept itself. */
function isOwnDelivered(item: InboxItem): boolean {
  return item.stored.blob?.epoch === 0n;
}

/** What was verified before it was stored does not open now: the disk changed it. */
function damaged(): StateStoreError {
  return new StateStoreError("damaged", "the device's state is damaged: an entry does not open");
}

const acknowledged = Promise.resolve();

class InboxEntry implements Entry {
  readonly position: number;
  readonly sender: string;
  readonly own: boolean;
  readonly #inbox: Inbox;
  readonly #item: InboxItem;

  constructor(inbox: Inbox, position: number, item: InboxItem, sender: string, self: string) {
    this.#inbox = inbox;
    this.position = position;
    this.#item = item;
    this.sender = sender;
    this.own = sender === self;
  }

  get blobId(): string {
    return idText(this.#item.stored.blob?.blobId ?? none);
  }

  get cursor(): number {
    return Number(this.#item.stored.cursor);
  }

  get seq(): number {
    return this.#item.seq;
  }

  get data(): Uint8Array {
    return this.#item.opened?.data ?? none;
  }

  get contentType(): string {
    return this.#item.opened?.contentType ?? "";
  }

  ack(): Promise<void> {
    this.#inbox.acknowledge(this.position);
    return acknowledged;
  }
}
