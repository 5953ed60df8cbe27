/**
 * What is left of a log of 100,000 blobs that a snapshot replaced: on the relay's disk, on the wire for a
 * device that comes late, and in a device that was away for all of it and has something of its own queued.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type Host,
  MemoryDisk,
  MemoryStore,
  SyncClient,
  type SyncClientOptions,
} from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { type RunningRelay, startRelay } from "../../server/index.ts";
import { SqliteConnection } from "../../server/store/sqlite-connection.ts";
import { inDataFolder } from "../harness/build.ts";
import { amount, compare, type Figures, type Question, type Settings } from "../harness/measure.ts";

const blobsWhole = Number(process.env["SYNC_RELAY_BENCH_BLOBS"] ?? 100_000);
const payloadBytes = 1_000;
/** What the app's state comes to. */
const states = [500_000, 1_000_000, 10_000_000];
/** What the device that is away has queued. */
const queued = 3;
const lifted = 2 ** 40;

/** A device whose app keeps one state and counts entries. */
class App {
  readonly #relay: string;
  readonly #disk = new MemoryDisk();
  readonly #host: Host = { ...nodeHost(), uniform: () => 0 };
  client!: SyncClient;
  state = new Uint8Array(0);
  position = 0;
  entries = 0;

  constructor(relay: string) {
    this.#relay = relay;
  }

  async open(withSnapshots: boolean): Promise<this> {
    const snapshots: Partial<SyncClientOptions> = {
      snapshot: () => this.state,
      restore: async (pieces, { position }) => {
        const all: Uint8Array[] = [];
        for await (const piece of pieces) all.push(piece);
        this.state = new Uint8Array(Buffer.concat(all));
        this.position = position;
      },
    };
    this.client = await SyncClient.open({
      store: new MemoryStore(this.#disk),
      host: this.#host,
      relay: this.#relay,
      appliedPosition: this.position,
      codeCost: { memoryKiB: 8, passes: 1 },
      ...(withSnapshots ? snapshots : {}),
    });
    void this.#read(this.client);
    return this;
  }

  async #read(client: SyncClient): Promise<void> {
    for await (const entry of client.entries()) {
      this.entries += 1;
      this.position = entry.position;
      await entry.ack();
    }
  }

  async joins(inviter: App): Promise<this> {
    const invite = await inviter.client.invite({ confirm: () => true });
    await Promise.all([this.client.join(invite.link), invite.done]);
    return this;
  }

  async push(count: number): Promise<void> {
    for (let done = 0; done < count; done += 1_000) {
      const items = Array.from({ length: Math.min(1_000, count - done) }, () => ({
        data: this.#host.random(payloadBytes),
      }));
      await this.client.pushMany(items);
    }
    await this.client.flush();
  }

  random(length: number): Uint8Array<ArrayBuffer> {
    const made = new Uint8Array(length);
    for (let at = 0; at < length; at += 65_536) {
      made.set(this.#host.random(Math.min(65_536, length - at)), at);
    }
    return made;
  }
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise<void>((resolve) => setTimeout(resolve, 100));
}

const inSync = (apps: readonly App[]): Promise<void> =>
  until(() => apps.every(({ client }) => client.status().inSync));

/** The database and its log; and the log's index, which goes when the relay stops. */
async function diskBytes(folder: string): Promise<{ database: number; index: number }> {
  const size = async (end: string): Promise<number> =>
    (await stat(join(folder, `relay.db${end}`)).catch(() => ({ size: 0 }))).size;
  return { database: (await size("")) + (await size("-wal")), index: await size("-shm") };
}

/** Waits until nothing is given back any more: the relay does it piece by piece, once a second. */
async function atRest(folder: string) {
  let before = await diskBytes(folder);
  for (let same = 0; same < 40; ) {
    await new Promise<void>((resolve) => setTimeout(resolve, 100));
    const now = await diskBytes(folder);
    same = now.database === before.database ? same + 1 : 0;
    before = now;
  }
  return before;
}

/** What the protocol keeps of a group for ever, whatever is trimmed: its membership chain, and witnesses. */
async function keptBytes(folder: string): Promise<number> {
  const connection = await SqliteConnection.open(join(folder, "relay.db"), { readOnly: true });
  const [row] = await connection.query<{ readonly bytes: number }>(
    `SELECT (SELECT sum(length(bytes) + length(head)) FROM control)
      + (SELECT coalesce(sum(length(witness)), 0) FROM witnesses) AS bytes`,
  );
  await connection.close();
  return row?.bytes ?? 0;
}

/** What the side API says. */
class Side {
  readonly #url: string;

  constructor(relay: RunningRelay) {
    this.#url = relay.adminUrl ?? "";
  }

  async figure(name: string): Promise<number> {
    const text = await (await fetch(new URL("/metrics", this.#url))).text();
    return Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
  }

  async call(method: string): Promise<unknown> {
    const response = await fetch(new URL(`/syncrelay.admin.v1.${method}`, this.#url), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    // Some of them answer in a stream, which is read to its end.
    return method.endsWith("List") ? await response.json() : await response.arrayBuffer();
  }

  async blobs(): Promise<number> {
    const { groups } = (await this.call("GroupService/List")) as {
      groups: readonly { blobs?: string }[];
    };
    return Number(groups[0]?.blobs ?? 0);
  }
}

/** One run: figures by state size, and those of the two devices. */
async function run(settings: Settings, folder: string): Promise<Figures> {
  const relay = await startRelay({
    listen: "127.0.0.1:0",
    listenAdmin: "127.0.0.1:0",
    adminWithoutToken: true,
    data: folder,
    founding: "open",
    logLevel: "error",
    limits: {
      groupBytesMax: lifted,
      storeBytesMax: lifted,
      pushesPerS: 1_000_000,
      pushesBurst: 1_000_000,
    },
  });
  const side = new Side(relay);
  const figures: Record<string, number> = {};
  const opened: App[] = [];
  const device = async (withSnapshots: boolean): Promise<App> => {
    const app = await new App(relay.address).open(withSnapshots);
    opened.push(app);
    return app;
  };
  try {
    const a = await device(false);
    await a.client.createGroup({});
    const b = await (await device(false)).joins(a);
    const away = await (await device(false)).joins(a);
    await inSync([a, b, away]);
    await away.client.close();

    const blobs = amount(settings, blobsWhole, 10_000);
    await a.push(blobs);
    await inSync([a, b]);
    const old = await side.figure("sync_relay_store_live_bytes");
    const full = await diskBytes(folder);
    figures["old"] = old;
    settings.progress(`${blobs} blobs, ${old} bytes, on ${full.database} bytes of disk`);

    for (const [at, size] of states.entries()) {
      const state = a.random(size);
      const there = at === 0 ? [a, b] : opened;
      for (const app of there) app.state = state;
      if (at === 0) {
        // Asked for it by the relay, one makes a snapshot and the other confirms it: bodies go at once.
        for (const app of there) {
          await app.client.close();
          await app.open(true);
        }
        await until(async () => (await side.figure("sync_relay_store_live_bytes")) < old / 2);
        await comeBack(relay, figures, { a, b, away });
        const sent = relay.counters.bytesSent;
        const late = await (await device(true)).joins(b);
        await inSync([late]);
        await until(() => Buffer.compare(late.state, state) === 0);
        figures["lateBytes"] = relay.counters.bytesSent - sent;
      } else {
        await a.push(10);
        await inSync(there);
        await a.client.makeSnapshot();
        await until(async () => (await side.figure("sync_relay_store_live_bytes")) > size);
      }
      await until(async () => {
        await side.call("MaintenanceService/Trim");
        return (await side.blobs()) <= queued;
      });
      const { database, index } = await atRest(folder);
      figures[`${size}/live`] =
        (await side.figure("sync_relay_store_live_bytes")) + (await keptBytes(folder));
      figures[`${size}/database`] = database;
      figures[`${size}/files`] = database + index;
      settings.progress(
        `${figures[`${size}/live`]} bytes live, on ${database} bytes of disk and ${index} of index`,
      );
    }
    return figures;
  } finally {
    for (const { client } of opened) await client.close();
    await relay.drain();
  }
}

/** The device that was away comes back with something queued. */
async function comeBack(
  relay: RunningRelay,
  figures: Record<string, number>,
  { a, b, away }: { readonly a: App; readonly b: App; readonly away: App },
): Promise<void> {
  const sent = relay.counters.bytesSent;
  const known = a.entries;
  await away.open(true);
  await away.client.pushMany(Array.from({ length: queued }, () => ({ data: away.random(50) })));
  await inSync([a, b, away]);
  await until(() => a.entries === known + queued);
  figures["awayBytes"] = relay.counters.bytesSent - sent;
  figures["awayHas"] = a.entries - known + (Buffer.compare(away.state, a.state) === 0 ? 1 : 0);
}

const sides = {
  ours: "this relay and real devices; the log is of 100,000 blobs of 1,000 B",
  limit: "",
};

export const retention: Question = {
  name: "retention",
  what: "what is left of 100,000 blobs of 1,000 B that a snapshot replaced: on the disk, and for who comes late",
  ask: async (settings) => {
    const runs: Figures[] = [];
    for (let i = 0; i < settings.repetitions; i++) {
      settings.progress(`repetition ${i + 1} of ${settings.repetitions}`);
      runs.push(await inDataFolder((folder) => run(settings, folder)));
    }
    const against = (
      name: string,
      what: string,
      unit: string,
      ours: string,
      limit: (figures: Figures) => number,
      told: string,
      bound: { readonly target?: number; readonly wanted: "at most" | "at least" },
    ) =>
      compare(
        { question: `retention/${name}`, what, unit, sides: { ...sides, limit: told }, ...bound },
        runs.map((figures) => ({
          ours: { it: figures[ours] as number },
          limit: { it: limit(figures) },
        })),
        "it",
      );
    const live = (size: number) => (figures: Figures) => figures[`${size}/live`] as number;
    const label = (size: number): string => `${size / 1_000_000}MB`;
    return [
      ...states.map((size) =>
        against(
          label(size),
          "database and its log on the disk, against what lives",
          "bytes",
          `${size}/database`,
          live(size),
          "what must be kept: the snapshot, its manifest and blobs above it with their headers, as quotas count them, the membership chain and the witnesses",
          { target: 1.3, wanted: "at most" },
        ),
      ),
      ...states.map((size) =>
        against(
          `${label(size)}/all`,
          "the same with the index of the log (-shm), which goes when the relay stops",
          "bytes",
          `${size}/files`,
          live(size),
          "what must be kept",
          { wanted: "at most" },
        ),
      ),
      against(
        "late",
        "bytes to a device that joins late and has the state then, against the log that was",
        "bytes",
        "lateBytes",
        (figures) => figures["old"] as number,
        "live bytes of the log before the snapshot",
        { target: 0.01, wanted: "at most" },
      ),
      against(
        "away",
        "bytes to a device that was away for all of it, against the log that was",
        "bytes",
        "awayBytes",
        (figures) => figures["old"] as number,
        "live bytes of the log before the snapshot",
        { target: 0.01, wanted: "at most" },
      ),
      against(
        "away/kept",
        "what that device has and had queued: the state, and its entries at the others",
        "of it",
        "awayHas",
        () => queued + 1,
        "all of it",
        { target: 1, wanted: "at least" },
      ),
    ];
  },
};
