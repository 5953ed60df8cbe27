/**
 * Members who change their group at the same moment: they remove each other, rotate at once, let
 * somebody in while another is removed, and all of it mixed, while connections break and processes
 * die. Everything follows from the seed. In the end whoever remains must agree, hold the same keys,
 * and have nothing left to do.
 *
 *     npm run sim -- --races --seeds 10000
 */
import type { MemoryDisk } from "../../client/index.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { type ControlChain, members, readChain } from "../../client/seal/membership.ts";
import type { MemoryStore as RelayStore } from "../../server/store/memory-store.ts";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText, parseId } from "../../wire/ids.ts";
import { newRelayStore, RaceDevice, RaceRelay } from "./race-nodes.ts";
import type { RunResult } from "./simulation.ts";
import { describe, World } from "./world.ts";

/** How long after the last fault everything must have come to an end, in milliseconds. */
const healMsMax = 30 * 60_000;
const membersAtFirst = 4;

/** A group of four and two strangers, made once: each seed goes on from copies of them. */
interface Template {
  readonly store: RelayStore;
  readonly disks: readonly MemoryDisk[];
  readonly strangers: readonly MemoryDisk[];
}

let made: Promise<Template> | undefined;

async function makeTemplate(): Promise<Template> {
  const world = new World(0);
  const relay = new RaceRelay(world, newRelayStore(), 0);
  relay.start();
  const all: RaceDevice[] = [];
  for (let i = 1; i <= membersAtFirst + 2; i++) {
    const device = new RaceDevice(`device ${i}`, world, relay, 10 + i);
    await device.start();
    all.push(device);
  }
  const devices = all.slice(0, membersAtFirst);
  const [founder] = devices as [RaceDevice];
  await ended(world, founder.client.createGroup());
  for (const joiner of devices.slice(1)) {
    const invite = await ended(world, founder.client.invite({ confirm: () => true }));
    await ended(world, joiner.client.join(invite.link));
    await ended(world, joiner.client.push(utf8(`from ${joiner.name}`)));
  }
  await world.run(60_000);
  for (const device of all) device.crash();
  relay.crash("kept");
  return {
    store: relay.store,
    disks: devices.map(({ disk }) => disk),
    strangers: all.slice(membersAtFirst).map(({ disk }) => disk),
  };
}

/** Moves time on until a promise has settled. */
async function ended<T>(world: World, promise: Promise<T>): Promise<T> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  if (!(await world.until(() => settled, healMsMax))) throw new Error("it does not end");
  return await promise;
}

/** Runs one seed. */
export async function race(seed: number): Promise<RunResult> {
  made ??= makeTemplate();
  const template = await made;
  const world = new World(seed);
  const unhandled = (error: unknown): void => {
    world.fail(`unhandled rejection: ${describe(error)}`);
  };
  process.on("unhandledRejection", unhandled);
  try {
    const run = new Race(world, template);
    await run.run();
    return {
      seed,
      failures: world.failures,
      story: world.story,
      events: world.events,
      blobs: run.blobs,
      virtualMs: world.nowMs,
    };
  } finally {
    process.off("unhandledRejection", unhandled);
  }
}

/** What somebody asked for. */
interface Asked {
  readonly what: string;
  readonly by: RaceDevice;
  /** The process that was asked. */
  readonly life: number;
  outcome: "open" | "done" | "refused";
  /** What must be so in the end, where it was done. */
  readonly holds: (chain: ControlChain) => boolean;
}

/** What may be answered to somebody who asked for what makes no sense any more, or is cut off. */
const honest = new Set([
  ErrorCode.DEVICE_REVOKED,
  ErrorCode.DEVICE_UNKNOWN,
  ErrorCode.NOT_A_MEMBER,
  ErrorCode.MEMBERSHIP_CONFLICT,
  ErrorCode.INVITE_INVALID,
  ErrorCode.CONNECTION_LOST,
  ErrorCode.HANDSHAKE_FAILED,
  ErrorCode.UNREACHABLE,
  ErrorCode.TIMED_OUT,
  ErrorCode.STORE_UNAVAILABLE,
]);

class Race {
  readonly #world: World;
  readonly #relay: RaceRelay;
  readonly #devices: RaceDevice[] = [];
  readonly #strangers: RaceDevice[] = [];
  readonly #asked: Asked[] = [];
  #free: RaceDevice[] = [];
  blobs = 0;

  constructor(world: World, template: Template) {
    this.#world = world;
    this.#relay = new RaceRelay(world, template.store.copy(), world.plan.pick([0, 5, 40]));
    const from = (disks: readonly MemoryDisk[], into: RaceDevice[], first: number): void => {
      for (const [i, disk] of disks.entries()) {
        const name = `device ${first + i}`;
        into.push(new RaceDevice(name, world, this.#relay, 10 + first + i, disk.copy()));
      }
    };
    from(template.disks, this.#devices, 1);
    from(template.strangers, this.#strangers, 1 + template.disks.length);
    this.#free = [...this.#strangers];
  }

  async run(): Promise<void> {
    const world = this.#world;
    const { plan } = world;
    this.#relay.start();
    // One may be away, and come to a group that has changed without it.
    const away = plan.chance(0.25) ? plan.pick(this.#devices) : undefined;
    for (const device of this.#devices) if (device !== away) await device.start();
    const here = this.#devices.filter((device) => device !== away);
    const online = (): boolean =>
      here.every(({ client }) => client.status().connection.state === "online");
    if (!(await world.until(online, 60_000))) world.fail("not everybody comes online");
    await world.run(plan.int(0, 500));
    this.#plan(here);
    if (plan.chance(0.5)) this.#faults();
    await world.run(plan.pick([500, 3_000]));
    await this.#heal();
  }

  // --- what happens -----------------------------------------------------------------------------

  #plan(here: readonly RaceDevice[]): void {
    const { plan } = this.#world;
    const spread = plan.pick([0, 10, 80, 400]);
    const soon = (run: () => void): void => {
      this.#world.after(plan.int(0, spread), run);
    };
    const order = here.toSorted(() => plan.uniform() - 0.5);
    const [a, b, c] = order as [RaceDevice, RaceDevice, RaceDevice];
    const kind = plan.weighted<() => void>([
      [
        2,
        () => {
          // Two remove each other.
          soon(() => this.#remove(a, [b]));
          soon(() => this.#remove(b, [a]));
        },
      ],
      // All who are there rotate at once.
      [2, () => here.forEach((device) => soon(() => this.#rotate(device)))],
      [
        3,
        () => {
          // Somebody is let in while another, or whoever lets it in, is removed.
          soon(() => this.#invite(a));
          soon(() => this.#remove(b, [plan.pick([a, c])]));
        },
      ],
      [
        1,
        () => {
          // One is removed by all others.
          for (const by of order.slice(1)) soon(() => this.#remove(by, [a]));
        },
      ],
      [
        1,
        () => {
          // A ring.
          order.forEach((device, i) =>
            soon(() => this.#remove(device, [order[(i + 1) % order.length] as RaceDevice])),
          );
        },
      ],
      [
        4,
        () => {
          for (let i = plan.int(2, 6); i > 0; i--)
            soon(() => this.#anything(plan.pick(here), here));
        },
      ],
    ]);
    kind();
    for (const device of here) if (plan.chance(0.5)) soon(() => this.#push(device));
  }

  #anything(by: RaceDevice, here: readonly RaceDevice[]): void {
    const { plan } = this.#world;
    const others = here.filter((device) => device !== by);
    plan.weighted<() => void>([
      [4, () => this.#remove(by, [plan.pick(others)])],
      [1, () => this.#remove(by, others.slice(0, 2))],
      [4, () => this.#rotate(by)],
      [2, () => this.#rename(by)],
      [4, () => this.#invite(by)],
      [1, () => this.#phrase(by)],
      [2, () => this.#push(by)],
    ])();
  }

  #ask(
    what: string,
    by: RaceDevice,
    run: () => Promise<unknown>,
    holds: Asked["holds"] = () => true,
  ): void {
    if (!by.up) return;
    const world = this.#world;
    const asked: Asked = { what: `${by.name}: ${what}`, by, life: by.life, outcome: "open", holds };
    this.#asked.push(asked);
    world.tell(asked.what);
    (async () => run())().then(
      () => {
        asked.outcome = "done";
        world.tell(`${asked.what}: done`);
      },
      (error: unknown) => {
        asked.outcome = "refused";
        world.tell(`${asked.what}: ${String(error)}`);
        if (asked.life !== by.life || !by.up) return;
        const said = error instanceof SyncError && honest.has(error.code);
        if (!said) world.fail(`${asked.what}: ${describe(error)}`);
      },
    );
  }

  #remove(by: RaceDevice, leaving: readonly RaceDevice[]): void {
    const ids = leaving.map(({ disk }) => idOf(disk));
    this.#ask(
      `removes ${leaving.map(({ name }) => name).join(", ")}`,
      by,
      () => by.client.remove(ids),
      (chain) => ids.every((id) => chain.devices.get(id)?.closing !== undefined),
    );
  }

  #rotate(by: RaceDevice): void {
    if (!by.up) return;
    const { epoch } = by.client.status();
    this.#ask(
      "rotates",
      by,
      () => by.client.rotate(),
      (chain) => chain.epoch > epoch,
    );
  }

  #rename(by: RaceDevice): void {
    this.#ask("renames itself", by, () => by.client.rename(`name ${this.#world.plan.int(1, 9)}`));
  }

  #push(by: RaceDevice): void {
    this.#ask("pushes", by, () =>
      by.client.pushMany([{ data: utf8(`from ${by.name}`) }, { data: utf8("another") }]),
    );
  }

  #phrase(by: RaceDevice): void {
    this.#ask("makes a phrase", by, () => by.client.createRecoveryPhrase({ replace: true }));
  }

  /** Lets a stranger in, or tries to. */
  #invite(by: RaceDevice): void {
    const joiner = this.#free.shift();
    if (joiner === undefined || !by.up) return;
    const id = idOf(joiner.disk);
    const inRoster = (chain: ControlChain): boolean => chain.devices.has(id);
    this.#ask(
      `invites ${joiner.name}`,
      by,
      async () => {
        await joiner.start();
        const invite = await by.client.invite({ confirm: () => true });
        this.#ask(`joins by ${by.name}`, joiner, () => joiner.client.join(invite.link), inRoster);
        await invite.done;
      },
      inRoster,
    );
  }

  #faults(): void {
    const world = this.#world;
    const { plan } = world;
    const all = [...this.#devices, ...this.#strangers];
    for (let i = plan.int(1, 4); i > 0; i--) {
      const device = plan.pick(all);
      const fault = plan.weighted<() => void>([
        [4, () => device.cut()],
        [
          4,
          () => {
            if (!device.up) return;
            world.tell(`${device.name} dies`);
            device.crash();
            world.after(plan.pick([0, 50, 2_000]), () => this.#start(device));
          },
        ],
        [
          2,
          () => {
            this.#relay.crash(plan.pick(["kept", "lost"]));
            world.after(plan.pick([0, 50, 2_000]), () => this.#relay.start());
          },
        ],
        [2, () => this.#relay.store.failCommits(plan.int(1, 4))],
        [
          1,
          () => {
            device.road.stalledUntilMs = world.nowMs + plan.int(10, 20_000);
          },
        ],
      ]);
      world.after(plan.int(0, 600), fault);
    }
  }

  #start(device: RaceDevice): void {
    device.start().catch((error: unknown) => {
      this.#world.fail(`${device.name} does not open: ${describe(error)}`);
    });
  }

  // --- what must be so --------------------------------------------------------------------------

  async #heal(): Promise<void> {
    const world = this.#world;
    if (world.failures.length > 0) return;
    await world.run(2_500);
    world.tell("the faults are over");
    this.#relay.start();
    for (const device of [...this.#devices, ...this.#strangers]) {
      device.road.stalledUntilMs = 0;
      if (!device.up) this.#start(device);
    }
    await world.run(0);
    const open = (): Asked[] =>
      this.#asked.filter(
        ({ outcome, by, life }) => outcome === "open" && by.up && by.life === life,
      );
    if (!(await world.until(() => open().length === 0, healMsMax))) {
      world.fail(
        `never ends: ${open()
          .map(({ what }) => what)
          .join("; ")}`,
      );
      return;
    }
    if (!(await this.#settle())) return;
    for (const device of this.#remaining) await device.client.push(utf8(`last of ${device.name}`));
    if (await this.#settle()) await this.#judge();
  }

  /** Waits until nothing is left to do; looks now and then, since looking takes longer than waiting. */
  async #settle(): Promise<boolean> {
    const world = this.#world;
    const endMs = world.nowMs + healMsMax;
    while (world.failures.length === 0) {
      const missing = this.#settled();
      if (missing === "") return true;
      if (world.nowMs >= endMs) world.fail(missing);
      else await world.run(250);
    }
    return false;
  }

  get #all(): RaceDevice[] {
    return [...this.#devices, ...this.#strangers];
  }

  get #remaining(): RaceDevice[] {
    return this.#all.filter(({ member }) => member);
  }

  /** What is not at rest yet; empty: everything is. */
  #settled(): string {
    const remaining = this.#remaining;
    const [first] = remaining;
    if (first === undefined) return "nobody remains";
    const head = Math.max(...remaining.map(({ client }) => client.status().head ?? 0));
    for (const device of this.#all) {
      const { client, name, disk } = device;
      const status = client.status();
      if (!device.member) {
        const wanted = this.#devices.includes(device)
          ? status.membership === "removed"
          : // Whoever was to let it in may be gone for good; it says so, and that is all it can.
            ["none", "admitted", "removed"].includes(status.membership);
        if (!wanted) return `${name} is ${status.membership}`;
        if (first.client.devices().some(({ deviceId }) => deviceId === idOf(disk))) {
          return `${name} is ${status.membership}, and a member for the others`;
        }
        continue;
      }
      if (status.connection.state !== "online") return `${name} is ${status.connection.state}`;
      if (status.epoch !== first.client.status().epoch)
        return `${name} is at epoch ${status.epoch}`;
      if (status.queued > 0) return `${name} has ${status.queued} queued`;
      if (status.head !== head || status.readCursor !== head) {
        return `${name} has read up to ${status.readCursor} of ${head}`;
      }
      if (status.unacknowledged > 0) return `${name} has not acknowledged everything`;
      if (disk.table("device").get("changes") !== undefined) return `${name} has changes to make`;
      if (disk.table("additions").range("").length > 0) return `${name} has additions to make`;
    }
    return "";
  }

  async #judge(): Promise<void> {
    const world = this.#world;
    const remaining = this.#remaining;
    const chains = new Set<string>();
    const rings = new Set<string>();
    const rosters = new Set<string>();
    let chain: ControlChain | undefined;
    for (const { client, disk, name } of remaining) {
      const control = disk
        .table("control")
        .range(0)
        .map(({ value }) => value);
      const groupId = parseId(client.groupId ?? "", 32) as Uint8Array;
      chain = readChain(control, { groupId, keys: deriveDeviceKeys(seedOf(disk)) });
      chains.add(idText(chain.version.head));
      const { keyring } = chain;
      const ring = Array.from({ length: chain.epoch }, (_, i) =>
        idText(keyring.secret(i + 1) as Uint8Array),
      );
      rings.add(ring.join());
      rosters.add(
        members(chain)
          .map(({ deviceId }) => idText(deviceId))
          .sort()
          .join(),
      );
      const { refused, findings } = client.status();
      if (refused + findings > 0) world.fail(`${name}: ${refused} refused, ${findings} findings`);
    }
    if (chains.size !== 1) world.fail("they have different chains");
    if (rings.size !== 1) world.fail("they hold different keyrings");
    if (rosters.size !== 1) world.fail("they have different rosters");
    // The relay has the very chain, and serves exactly its members.
    const { groupId = "" } = (remaining[0] as RaceDevice).client;
    const loaded = await this.#relay.store.loadGroup(parseId(groupId, 32) as Uint8Array);
    const served = loaded?.devices
      .filter(({ state }) => state === "active")
      .map(({ deviceId }) => idText(deviceId))
      .sort()
      .join();
    if (served === undefined || !rosters.has(served)) world.fail("the relay serves others");
    this.blobs = loaded?.group.head ?? 0;
    this.#judgeEntries();
    for (const { what, outcome, holds } of this.#asked) {
      if (outcome === "done" && chain !== undefined && !holds(chain)) {
        world.fail(`it is not so in the end: ${what}`);
      }
    }
  }

  /** Everybody who remains was handed the same entries, in one order, each once unless it died. */
  #judgeEntries(): void {
    const world = this.#world;
    const lists = this.#remaining.map((device) => ({
      name: device.name,
      all: device.taken,
      once: [...new Set(device.taken)],
      died: device.life > 1,
    }));
    for (const { name, all, once, died } of lists) {
      if (!died && all.length !== once.length) world.fail(`${name} was handed an entry twice`);
    }
    const longest = lists.reduce((a, b) => (b.once.length > a.once.length ? b : a));
    for (const { name, once } of lists) {
      // Members of the beginning had acknowledged what stood in the log before.
      const same = once.every(
        (id, i) => longest.once[longest.once.length - once.length + i] === id,
      );
      if (!same) world.fail(`${name} and ${longest.name} were handed different entries`);
    }
  }
}

function seedOf(disk: MemoryDisk): Uint8Array {
  return disk.table("device").get("seed") as Uint8Array;
}

const ids = new Map<string, string>();

/** The device that a disk is of. */
function idOf(disk: MemoryDisk): string {
  const seed = seedOf(disk);
  const key = idText(seed);
  let id = ids.get(key);
  if (id === undefined) {
    id = idText(deriveDeviceKeys(seed).deviceId);
    ids.set(key, id);
  }
  return id;
}
