/**
 * L4: the least durable relay. `ws`, ChaCha20-Poly1305 both ways and SQLite with
 * group commit, acknowledging after the commit and then fanning out, and
 * nothing else: no membership, no chain, no limits, no errors. It has every
 * trick a relay of this kind can have: a push is decrypted straight into the
 * buffer of the commit it goes into, a client's acknowledgements of one commit
 * share a frame, and so do a commit's deliveries, which are built once a group.
 */
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { type WebSocket, WebSocketServer } from "ws";
import { serveRole } from "../harness/role.ts";
import { FrameCipher, tagBytes } from "./frame-cipher.ts";
import { frameType, pushHeaderBytes, rowHeaderBytes } from "./frames.ts";
import { LimitStore, place, type StoredRow } from "./group-commit.ts";

interface Connection {
  readonly socket: WebSocket;
  readonly client: number;
  readonly group: Group;
  readonly up: FrameCipher;
  readonly down: FrameCipher;
  /** Its requests in the batch that takes pushes now, and that batch. */
  requests: number[];
  requestsOf: Batch | undefined;
}

interface Group {
  readonly group: number;
  head: number;
  readonly readers: Connection[];
}

/** What goes into one commit. */
class Batch {
  places: number[] = [];
  groups: Group[] = [];
  slots: Buffer;
  readonly #slotBytes: number;
  readonly acknowledgements: { readonly connection: Connection; readonly requests: number[] }[] =
    [];

  constructor(slotBytes: number) {
    this.#slotBytes = slotBytes;
    this.slots = Buffer.allocUnsafe(256 * slotBytes);
  }

  /** Decrypts a push into the next slot. */
  add(connection: Connection, frame: Buffer): void {
    const offset = this.places.length * this.#slotBytes;
    if (offset + this.#slotBytes > this.slots.byteLength) {
      const grown = Buffer.allocUnsafe(2 * this.slots.byteLength);
      this.slots.copy(grown);
      this.slots = grown;
    }
    connection.up.open(frame, this.slots, offset);
    const group = connection.group;
    group.head += 1;
    this.places.push(place(group.group, connection.client, group.head));
    this.groups.push(group);
    if (connection.requestsOf !== this) {
      connection.requestsOf = this;
      connection.requests = [];
      this.acknowledgements.push({ connection, requests: connection.requests });
    }
    connection.requests.push(this.slots.readUInt32LE(offset + 1));
  }
}

/** A relay for pushes of one size. */
class LimitRelay {
  readonly #store: LimitStore;
  readonly #payloadBytes: number;
  readonly #slotBytes: number;
  readonly #groups = new Map<number, Group>();
  /** Commits so far. */
  commits = 0;
  #batch: Batch;
  #committing = false;

  constructor(store: LimitStore, payloadBytes: number) {
    this.#store = store;
    this.#payloadBytes = payloadBytes;
    this.#slotBytes = pushHeaderBytes + payloadBytes;
    this.#batch = new Batch(this.#slotBytes);
  }

  accept(socket: WebSocket): void {
    socket.once("message", (hello: Buffer) => {
      const client = hello.readUInt32LE(0);
      const connection: Connection = {
        socket,
        client,
        group: this.#groupOf(hello.readUInt32LE(4)),
        up: new FrameCipher(client, "up"),
        down: new FrameCipher(client, "down"),
        requests: [],
        requestsOf: undefined,
      };
      socket.on("message", (frame: Buffer) => this.#received(connection, frame));
      socket.on("close", () => {
        const at = connection.group.readers.indexOf(connection);
        if (at !== -1) connection.group.readers.splice(at, 1);
      });
    });
  }

  #groupOf(number: number): Group {
    let group = this.#groups.get(number);
    if (group === undefined) {
      group = { group: number, head: 0, readers: [] };
      this.#groups.set(number, group);
    }
    return group;
  }

  #received(connection: Connection, frame: Buffer): void {
    // A push is the longest frame there is, so its length tells it apart before it is opened.
    if (frame.byteLength === this.#slotBytes + tagBytes) {
      this.#batch.add(connection, frame);
      if (!this.#committing) this.#commitSoon();
      return;
    }
    const message = Buffer.allocUnsafe(frame.byteLength - tagBytes);
    connection.up.open(frame, message, 0);
    if (message[0] === frameType.deliver) {
      connection.group.readers.push(connection);
      send(connection, rowsMessage(frameType.deliver, []));
    } else if (message[0] === frameType.pull)
      void this.#answerPull(connection, message.readUInt32LE(1));
  }

  #commitSoon(): void {
    this.#committing = true;
    // Not before everything that has arrived by now was read.
    setImmediate(() => this.#commit());
  }

  #commit(): void {
    const batch = this.#batch;
    this.#batch = new Batch(this.#slotBytes);
    this.#store.append(
      { places: batch.places, slots: batch.slots, slotBytes: this.#slotBytes },
      this.#payloadBytes,
      (error) => {
        if (error !== null) throw error;
        this.commits += 1;
        // The next commit runs on the thread pool while this one is acknowledged here.
        if (this.#batch.places.length > 0) this.#commit();
        else this.#committing = false;
        this.#acknowledge(batch);
        this.#fanOut(batch);
      },
    );
  }

  #acknowledge(batch: Batch): void {
    for (const { connection, requests } of batch.acknowledgements) {
      const message = Buffer.allocUnsafe(1 + 4 * requests.length);
      message[0] = frameType.push;
      for (const [i, request] of requests.entries()) message.writeUInt32LE(request, 1 + 4 * i);
      send(connection, message);
    }
  }

  #fanOut(batch: Batch): void {
    const touched = new Map<Group, number[]>();
    for (const [i, group] of batch.groups.entries()) {
      if (group.readers.length === 0) continue;
      const rows = touched.get(group);
      if (rows === undefined) touched.set(group, [i]);
      else rows.push(i);
    }
    for (const [group, rows] of touched) {
      const stored = rows.map((i): StoredRow => {
        const end = (i + 1) * this.#slotBytes;
        return {
          cursor: (batch.places[i] as number) % 2 ** 32,
          payload: batch.slots.subarray(end - this.#payloadBytes, end),
        };
      });
      const message = rowsMessage(frameType.deliver, stored);
      for (const reader of group.readers) send(reader, message);
    }
  }

  async #answerPull(connection: Connection, from: number): Promise<void> {
    const { group, head } = connection.group;
    let page = this.#store.read(group, from);
    for (;;) {
      const rows = await page;
      const last = rows.at(-1);
      if (last === undefined) return;
      // The next page is read on the thread pool while this one is encrypted here.
      if (last.cursor < head) page = this.#store.read(group, last.cursor);
      send(connection, rowsMessage(frameType.pull, rows));
      if (last.cursor >= head) return;
    }
  }
}

function rowsMessage(type: number, rows: readonly StoredRow[]): Buffer {
  let length = 1;
  for (const row of rows) length += rowHeaderBytes + row.payload.byteLength;
  const message = Buffer.allocUnsafe(length);
  message[0] = type;
  let offset = 1;
  for (const { cursor, payload } of rows) {
    offset = message.writeUInt32LE(cursor, offset);
    offset = message.writeUInt32LE(payload.byteLength, offset);
    message.set(payload, offset);
    offset += payload.byteLength;
  }
  return message;
}

function send(connection: Connection, message: Buffer): void {
  const frame = Buffer.allocUnsafe(message.byteLength + tagBytes);
  connection.down.seal(message, frame, 0);
  connection.socket.send(frame);
}

let relay: LimitRelay | undefined;

serveRole({
  commits: () => Promise.resolve(relay?.commits ?? 0),
  start: async (args: { folder: string; payloadBytes: number }) => {
    const store = await LimitStore.create(join(args.folder, "limit.sqlite"), "lean");
    const started = new LimitRelay(store, args.payloadBytes);
    relay = started;
    const server = new WebSocketServer({
      host: "127.0.0.1",
      port: 0,
      perMessageDeflate: false,
      maxPayload: 16 * 1024 * 1024,
    });
    await once(server, "listening");
    server.on("connection", (socket) => started.accept(socket));
    return { port: (server.address() as AddressInfo).port };
  },
});
