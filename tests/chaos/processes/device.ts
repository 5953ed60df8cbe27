/**
 * A device as a process: the library with its state on disk, and an app that keeps all it is handed
 * in a file, in one write an entry, with the position in it. It does what it is told over Node's
 * channel, and tells how it stands.
 */
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  type Entry,
  type PushItem,
  StateStoreError,
  SyncClient,
  SyncError,
} from "../../../client/index.ts";
import { nodeHost, openNodeStore } from "../../../client/platform/node/index.ts";
import { contentNamed, nameOf } from "./content.ts";
import { Journal, readJournal } from "./journal.ts";
import type {
  AppliedLine,
  AppPoint,
  Call,
  DeviceSettings,
  PushLine,
  Said,
  Standing,
} from "./messages.ts";

const settings = JSON.parse(process.env["CHAOS_DEVICE"] ?? "") as DeviceSettings;
const path = (name: string): string => join(settings.folder, name);
/** A run that has ended hears nothing any more. */
const say = (said: Said): void => {
  if (process.connected) process.send?.(said);
};

const counts = { applied: 0, queuedEver: 0, durable: 0, integrity: 0, invited: 0, restored: 0 };
const pushes = new Journal(path("pushes"));
const events = new Journal(path("events"));
let applied = new Journal(path("applied"));
let pushed = readJournal<PushLine>(path("pushes"))
  .filter((line) => line[0] === "begin")
  .reduce((most, line) => Math.max(most, line[0] === "begin" ? line[2] : 0), 0);

let pointsLeft = settings.dieAt?.count ?? 0;
function point(name: AppPoint): void {
  if (settings.dieAt?.point === name && --pointsLeft === 0) process.kill(process.pid, "SIGKILL");
}

function defect(error: unknown): void {
  events.write(["defect", error instanceof Error ? String(error.stack) : String(error)]);
  process.exit(70);
}
process.on("uncaughtException", defect);
process.on("unhandledRejection", defect);
process.on("disconnect", () => process.exit(0));

/** What a person would be told beside the code. */
function hintOf(error: unknown): string {
  if (!(error instanceof SyncError)) return "";
  const { cause, hint = "" } = error;
  return cause === undefined ? hint : `${hint} (${nameError(cause)})`;
}

function nameError(error: unknown): string {
  if (error instanceof SyncError) return error.codeName;
  if (error instanceof StateStoreError) return `STATE_${error.problem}`;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

const base = nodeHost();
const store = await openNodeStore(settings.state).catch((error: unknown) => {
  events.write(["error", nameError(error)]);
  process.exit(error instanceof StateStoreError && error.problem === "locked" ? 75 : 74);
});

const client = await SyncClient.open({
  store,
  host: {
    ...base,
    monotonicMs: () => base.monotonicMs() * settings.speed,
    setTimer: (ms, run) => base.setTimer(ms / settings.speed, run),
    // Waits that chance decides are short ones: a device is back soon after each fault, and its
    // deadlines stay long enough for a busy machine.
    uniform: () => base.uniform() / 20,
    connect: (url, handlers) => {
      const to = new URL(url);
      if (settings.viaPort !== undefined) to.port = String(settings.viaPort);
      return base.connect(to.href, handlers);
    },
  },
  name: settings.name,
  codeCost: { memoryKiB: 8, passes: 1 },
  appliedPosition: lastPosition(),
  ...(settings.relay === undefined ? {} : { relay: settings.relay }),
  ...(settings.snapshots === true ? { snapshot, restore } : {}),
});

function lastPosition(): number {
  const line = readJournal<AppliedLine>(path("applied")).at(-1);
  return line?.[1] ?? 0;
}

/** The app's state: everything it ever applied. */
function snapshot(): Uint8Array {
  const lines = readJournal<AppliedLine>(path("applied")).filter((line) => line[0] === "entry");
  return new TextEncoder().encode(JSON.stringify(lines));
}

async function restore(
  content: AsyncIterable<Uint8Array>,
  { position }: { readonly position: number },
): Promise<void> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  const lines = JSON.parse(Buffer.concat(parts).toString("utf8")) as AppliedLine[];
  const text = [...lines, ["position", position]].map((line) => `${JSON.stringify(line)}\n`);
  writeFileSync(path("applied.new"), text.join(""));
  applied.close();
  renameSync(path("applied.new"), path("applied"));
  applied = new Journal(path("applied"));
  counts.restored += 1;
  moved();
}

let telling = false;
function moved(): void {
  if (telling) return;
  telling = true;
  setImmediate(() => {
    telling = false;
    say({ standing: standing() });
  });
}

function standing(): Standing {
  const status = client.status();
  const { connection, pushHeld } = status;
  return {
    deviceId: status.deviceId,
    connection: connection.state,
    error: "error" in connection ? nameError(connection.error) : "",
    membership: status.membership,
    queued: status.queued,
    held: pushHeld?.codeName ?? "",
    readCursor: status.readCursor,
    appliedCursor: status.appliedCursor,
    refused: status.refused,
    findings: status.findings,
    epoch: status.epoch,
    devices: status.devices,
    inSync: status.inSync,
    ...counts,
  };
}

client.on("status", moved);
client.on("membership", () => {
  point("membership");
  moved();
});
client.on("integrity", ({ finding, sender, seq, cursor }) => {
  counts.integrity += 1;
  events.write(["integrity", `${finding} ${sender ?? ""} ${seq ?? ""} ${cursor ?? ""}`]);
  moved();
});
client.on("gap", (gap) => events.write(["gap", JSON.stringify(gap)]));
client.on("error", (error) => events.write(["error", nameError(error)]));

async function take(): Promise<void> {
  for await (const entry of client.entries()) await apply(entry);
}

async function apply(entry: Entry): Promise<void> {
  const { position, cursor, sender, seq, blobId, data } = entry;
  const name = nameOf(data);
  if (name === undefined) events.write(["defect", `content of ${blobId} is not what was pushed`]);
  point("before-apply");
  if (settings.slowMs !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, settings.slowMs));
  }
  const line: AppliedLine = ["entry", position, cursor, sender, seq, blobId, name ?? ""];
  applied.write(line);
  counts.applied += 1;
  point("after-apply");
  await entry.ack();
  point("after-ack");
  moved();
}

/** Takes entries as soon as the device is a member. */
let taking = false;
function takeWhenMember(): void {
  if (taking || client.status().membership !== "member") return;
  taking = true;
  take().catch((error: unknown) => {
    taking = false;
    if (client.status().connection.state !== "closed") events.write(["error", nameError(error)]);
  });
}
client.on("membership", takeWhenMember);

interface PushArgs {
  readonly count: number;
  readonly bytes: number;
  /** The content itself, in hexadecimal, in place of a name and what follows from it. */
  readonly raw?: string;
  readonly ttlS?: number;
}

async function push({ count, bytes, raw, ttlS }: PushArgs): Promise<{ durable: Promise<void> }> {
  const names: string[] = [];
  const items: PushItem[] = [];
  for (let i = 0; i < count; i++) {
    pushed += 1;
    const name = raw === undefined ? `${settings.name}/${pushed}` : "";
    names.push(name);
    const data = raw === undefined ? contentNamed(name, bytes) : Buffer.from(raw, "hex");
    items.push({ data: new Uint8Array(data), ...(ttlS === undefined ? {} : { ttlS }) });
  }
  pushes.write(["begin", names, pushed]);
  try {
    const beganMs = performance.now();
    const receipts = await client.pushMany(items);
    const lines = receipts.map(({ seq, blobId }, i) => [names[i], seq, blobId]);
    pushes.write(["queued", lines]);
    counts.queuedEver += count;
    point("queued");
    moved();
    const durable = Promise.all(receipts.map((receipt) => receipt.durable)).then(
      (places) => {
        pushes.write(["durable", places.map(({ cursor }, i) => [receipts[i]?.blobId, cursor])]);
        counts.durable += count;
        tookMs.push(performance.now() - beganMs);
        point("durable");
        moved();
      },
      // The client was closed before.
      () => undefined,
    );
    return { durable };
  } catch (error) {
    pushes.write(["refused", names, nameError(error)]);
    throw error;
  }
}

/** From the call to the acknowledgement, of pushes since it was last asked for. */
let tookMs: number[] = [];

let loading: Promise<void> | undefined;
let loadEnds = false;
/** Pushes without an end, so many batches not yet durable at a time. */
async function load(args: PushArgs & { window: number; everyMs?: number }): Promise<void> {
  let outstanding = 0;
  let wake: () => void = () => undefined;
  while (!loadEnds) {
    if (outstanding >= args.window) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    const { durable } = await push(args);
    outstanding += 1;
    void durable.then(() => {
      outstanding -= 1;
      wake();
    });
    if (args.everyMs !== undefined) {
      await new Promise((resolve) => setTimeout(resolve, args.everyMs));
    }
  }
}

const methods: Readonly<Record<string, (args: never) => unknown>> = {
  standing,
  found: async () => await client.createGroup(),
  invite: async () => {
    const invite = await client.invite({ confirm: () => true });
    void invite.done.then(
      () => {
        counts.invited += 1;
        moved();
      },
      () => undefined,
    );
    return invite.link;
  },
  join: async ({ link }: { link: string }) => await client.join(link),
  push: async (args: PushArgs) => void (await push(args)),
  pushDurable: async (args: PushArgs) => await (await push(args)).durable,
  load: (args: PushArgs & { window: number; everyMs?: number }) => {
    loadEnds = false;
    loading = load(args).catch((error: unknown) => events.write(["error", nameError(error)]));
  },
  endLoad: async () => {
    loadEnds = true;
    await loading;
  },
  flush: async () => await client.flush(),
  caughtUp: async () => await client.caughtUp(),
  remove: async ({ ids }: { ids: string[] }) => await client.remove(ids),
  rotate: async () => await client.rotate(),
  phrase: async () => (await client.createRecoveryPhrase()).words,
  recover: async ({ words }: { words: string[] }) => await client.recover(words),
  reconnect: async ({ invite }: { invite: string }) => await client.reconnectWithInvite(invite),
  makeSnapshot: async () => (await client.makeSnapshot()) !== undefined,
  connect: () => client.connect(),
  latencies: () => {
    const taken = tookMs;
    tookMs = [];
    return taken;
  },
  close: async () => await client.close(),
};

process.on("message", (message) => {
  const { id, method, args } = message as Call;
  const run = async (): Promise<unknown> =>
    await (methods[method] as (args: unknown) => unknown)(args);
  run().then(
    (result) => say({ id, result }),
    (error: unknown) => say({ id, error: nameError(error), hint: hintOf(error) }),
  );
});
if (!existsSync(path("applied"))) throw new Error("the app has no storage");
takeWhenMember();
say({ ready: true });
moved();
