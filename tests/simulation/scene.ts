/** Everything a run consists of, and what its events share. */
import { MemoryDisk } from "../../client/index.ts";
import { Chance } from "./chance.ts";
import { DeviceNode } from "./device-node.ts";
import type { Road } from "./network.ts";
import { Pairings } from "./pairings.ts";
import { type DiskHabits, RelayNode } from "./relay-node.ts";
import { Truth } from "./truth.ts";
import { describe, type World } from "./world.ts";

const devicesMax = 8;

/** What happens in a run at all: drawn once, so that many runs hold everybody to the strictest. */
export interface Kinds {
  /** Members remove, rotate, rename, make phrases and use them. */
  readonly membership: boolean;
  /** The relay goes on from older backups. */
  readonly relayRestores: boolean;
  /** Devices go on from older states of themselves, or are copied. */
  readonly deviceRestores: boolean;
  /** Apps make snapshots, and the log lets its beginning go. */
  readonly snapshots: boolean;
  /** Apps put objects, get them, and let them go. */
  readonly objects: boolean;
}

/** Drawn from a stream of its own: what was found before there were objects goes on telling its story. */
const objectsStream = 60;

export class Scene {
  readonly world: World;
  readonly truth: Truth;
  readonly relay: RelayNode;
  readonly devices: DeviceNode[] = [];
  readonly pairings: Pairings;
  readonly kinds: Kinds;
  /** Words of the recovery phrases that were shown to somebody. */
  readonly phrases: { readonly words: readonly string[]; readonly deviceId: string }[] = [];

  constructor(world: World) {
    const { plan } = world;
    this.world = world;
    this.truth = new Truth(world);
    this.kinds = {
      membership: plan.chance(0.6),
      relayRestores: plan.chance(0.3),
      deviceRestores: plan.chance(0.3),
      snapshots: plan.chance(0.3),
      objects: new Chance(world.seed, objectsStream).chance(0.2),
    };
    this.relay = new RelayNode(
      world,
      this.truth,
      {
        pushesPerS: plan.pick([1, 20, 1_000]),
        pushesBurst: plan.pick([5, 200, 1_000]),
        outboundBytesMax: plan.pick([2_000, 20_000, 4 * 1024 * 1024]),
      },
      disk(plan),
    );
    this.pairings = new Pairings(world, plan.int(0, 2 ** 31));
    const count = plan.int(2, 5);
    for (let i = 1; i <= count; i++) this.addDevice(plan);
    this.truth.appliedOf = (deviceId, applied) => this.#judgeApplied(deviceId, applied);
  }

  /** A device that is in no group yet; undefined where there are enough. */
  addDevice(plan: Chance, from?: DeviceNode): DeviceNode | undefined {
    const number = this.devices.length + 1;
    if (number > devicesMax) return undefined;
    const name = from === undefined ? `device ${number}` : `the copy of ${from.name}`;
    const device = new DeviceNode(name, this.world, this.relay, this.truth, {
      stream: 10 + number,
      road: road(plan),
      app: from?.app.habits ?? {
        exact: plan.chance(0.5),
        entriesBuffered: plan.pick([1, 5, 50, 10_000]),
      },
      habits: disk(plan),
      snapshots: this.kinds.snapshots,
      disk: from === undefined ? new MemoryDisk() : from.disk.copy(),
    });
    this.devices.push(device);
    return device;
  }

  startAfter(device: DeviceNode, ms: number): void {
    this.world.after(ms, () => {
      device.start().catch((error: unknown) => {
        this.world.fail(`${device.name} does not open: ${describe(error)}`);
      });
    });
  }

  /** Members that are up. */
  get here(): DeviceNode[] {
    return this.devices.filter(({ up, member }) => up && member);
  }

  /** What the relay is told was applied, some app must have acknowledged. */
  #judgeApplied(deviceId: string, applied: number): void {
    const { truth } = this;
    const nodes = this.devices.filter((each) => each.deviceId === deviceId);
    if (nodes.length === 0 || applied === 0) return;
    const missing = nodes.map(({ app }) => app.neverAcked(truth.log, applied));
    if (missing.includes(undefined)) return;
    this.world.fail(
      `1: the relay is told that ${truth.nameOf(deviceId)} applied ${applied}; not ${missing[0]?.cursor}`,
    );
  }
}

export function road(plan: Chance): Road {
  const [latencyMs, jitterMs, bytesPerMs] = plan.pick<
    readonly [number, number, number | undefined]
  >([
    [0, 2, undefined],
    [5, 5, undefined],
    [20, 30, undefined],
    [200, 300, undefined],
    [300, 0, undefined],
    [50, 50, 7],
    [5, 5, 100],
  ]);
  return { latencyMs, jitterMs, bytesPerMs, stalledUntilMs: 0, breakAfter: undefined };
}

function disk(plan: Chance): DiskHabits {
  return plan.pick([
    { syncMs: 0, slowMs: 0, slowShare: 0 },
    { syncMs: 3, slowMs: 50, slowShare: 0.05 },
    { syncMs: 20, slowMs: 2_000, slowShare: 0.02 },
    { syncMs: 100, slowMs: 500, slowShare: 0.1 },
  ]);
}
