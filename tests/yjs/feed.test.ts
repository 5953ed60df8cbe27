/** The Yjs provider, entry by entry: what it stores, and when it acknowledges. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import {
  type Entry,
  type PushItem,
  QueueFullError,
  type Status,
  type SyncEvents,
} from "../../client/index.ts";
import { MemoryDocStore, type YjsClient, YjsProvider } from "../../client/yjs/index.ts";
import { itemsOf, updateType } from "../../client/yjs/parts.ts";

/** A client that hands out what a test gives it, and keeps what is pushed. */
class HandClient implements YjsClient {
  readonly pushed: PushItem[] = [];
  readonly acknowledged: number[] = [];
  room = 100;
  #position = 0;
  #given: Entry[] = [];
  #wake: () => void = () => undefined;
  readonly #listeners: (() => void)[] = [];

  give(data: Uint8Array, options: { sender?: string; contentType?: string; skip?: number } = {}) {
    this.#position += 1 + (options.skip ?? 0);
    const position = this.#position;
    this.#given.push({
      blobId: `blob ${position}`,
      cursor: position,
      sender: options.sender ?? "other",
      seq: position,
      own: false,
      data,
      contentType: options.contentType ?? updateType,
      position,
      ack: async () => void this.acknowledged.push(position),
    });
    this.#wake();
  }

  async *entries({ signal }: { signal?: AbortSignal } = {}) {
    signal?.addEventListener("abort", () => this.#wake());
    while (signal?.aborted !== true) {
      const entry = this.#given.shift();
      if (entry !== undefined) yield entry;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async pushMany(items: readonly PushItem[]) {
    if (items.length > this.room) throw new QueueFullError(1, 1);
    this.pushed.push(...items);
    return items.map((_, at) => ({
      blobId: `own ${at}`,
      seq: at,
      durable: new Promise<never>(() => undefined),
    }));
  }

  on<E extends keyof SyncEvents>(_event: E, listener: (value: SyncEvents[E]) => void) {
    this.#listeners.push(listener as () => void);
    return () => undefined;
  }

  tell(): void {
    for (const listener of this.#listeners) listener();
  }

  status() {
    return { membership: "member" } as Status;
  }

  devices() {
    return [];
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

async function opened(store = new MemoryDocStore()) {
  const client = new HandClient();
  const doc = new Y.Doc();
  const provider = await YjsProvider.open({ doc, store, gatherMs: 0 });
  provider.connect(client);
  return { client, store, doc, provider, texts: () => doc.getArray<string>("texts").toArray() };
}

/** The updates of a document in which these texts are written, one after the other. */
function updatesOf(...texts: string[]): Uint8Array[] {
  const doc = new Y.Doc();
  const updates: Uint8Array[] = [];
  doc.on("update", (update: Uint8Array) => updates.push(update));
  for (const text of texts) doc.getArray<string>("texts").push([text]);
  return updates;
}

test("an entry is acknowledged once it is stored with its position", async () => {
  const { client, store, texts } = await opened();
  client.give(updatesOf("one")[0] as Uint8Array);
  await settle();
  assert.deepEqual(texts(), ["one"]);
  assert.equal(await store.position(), 1);
  assert.deepEqual(client.acknowledged, [1]);
});

test("until an update is whole, the position stays before its first part", async () => {
  const { client, store, texts } = await opened();
  const [long] = updatesOf("x".repeat(600_000));
  const parts = itemsOf(long as Uint8Array);
  assert.equal(parts.length, 3);
  const part = (at: number) => {
    const { data, contentType = "" } = parts[at] as PushItem;
    client.give(data, { contentType });
  };
  part(0);
  client.give(updatesOf("between")[0] as Uint8Array, { sender: "third" });
  part(1);
  await settle();
  assert.deepEqual(texts(), ["between"]);
  assert.equal(await store.position(), 0);
  assert.deepEqual(client.acknowledged, []);
  part(2);
  await settle();
  assert.equal(texts().join("").length, 600_007);
  assert.equal(await store.position(), 4);
  assert.deepEqual(client.acknowledged, [1, 2, 3, 4]);
});

test("what another tab applied, and did not tell, is read from the store before what follows it", async () => {
  const { client, store, texts } = await opened();
  const [one, two] = updatesOf("one", "two") as [Uint8Array, Uint8Array];
  await store.add({ update: one, position: 1 });
  client.give(two, { skip: 1 });
  await settle();
  assert.deepEqual(texts(), ["one", "two"]);
});

test("an update that comes before what it stands on outlives a crash", async () => {
  const { client, store, texts } = await opened();
  const [one, two] = updatesOf("one", "two") as [Uint8Array, Uint8Array];
  client.give(two);
  await settle();
  assert.deepEqual(texts(), []);
  assert.deepEqual(client.acknowledged, [1]);
  const next = await opened(store);
  next.client.give(one, { skip: 1 });
  await settle();
  assert.deepEqual(next.texts(), ["one", "two"]);
});

test("a full queue is told once, and what waits goes together once there is room", async () => {
  const { client, store, doc, provider } = await opened();
  client.room = 0;
  for (const text of ["one", "two", "three"]) {
    doc.getArray("texts").push([text]);
    await settle();
    client.tell();
    await settle();
  }
  assert.equal(provider.unqueued, 3);
  client.room = 100;
  client.tell();
  await settle();
  assert.equal(client.pushed.length, 1);
  assert.equal(provider.unqueued, 0);
  assert.ok((await store.load()).updates.every(({ pending }) => !pending));
});

test("closed, it stores what was changed last, and neither reads nor queues any more", async () => {
  const { client, store, doc, provider } = await opened();
  doc.getArray("texts").push(["the last"]);
  await provider.close();
  doc.getArray("texts").push(["behind it"]);
  client.give(updatesOf("too late")[0] as Uint8Array);
  await settle();
  assert.equal((await store.load()).updates.length, 1);
  assert.deepEqual(client.acknowledged, []);
});

test("with another client it goes on, and pushes what the one before had not taken", async () => {
  const { client, doc, provider, store, texts } = await opened();
  client.room = 0;
  doc.getArray("texts").push(["waits"]);
  await settle();
  const next = new HandClient();
  provider.connect(next);
  next.give(updatesOf("from elsewhere")[0] as Uint8Array);
  client.give(updatesOf("of the one before")[0] as Uint8Array);
  await settle();
  assert.equal(next.pushed.length, 1);
  assert.deepEqual(client.pushed, []);
  assert.deepEqual(texts().toSorted(), ["from elsewhere", "waits"]);
  assert.equal(await store.position(), 1);
});
