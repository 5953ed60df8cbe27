/**
 * One run: a relay and two to five devices, things that happen to them, the end of all faults, and
 * what must be so then. Everything follows from the seed.
 */
import { UsageError } from "../../client/index.ts";
import type { Chance } from "./chance.ts";
import { DeviceNode } from "./device-node.ts";
import type { Road } from "./network.ts";
import { Pairings } from "./pairings.ts";
import { RelayNode } from "./relay-node.ts";
import { Truth } from "./truth.ts";
import { describe, World } from "./world.ts";

export interface RunResult {
  readonly seed: number;
  readonly failures: readonly string[];
  readonly story: readonly string[];
  readonly events: number;
  readonly blobs: number;
  readonly virtualMs: number;
}

/** How long after the last fault everything must be in sync. */
const healMsMax = 30 * 60_000;

/** Runs one seed. */
export async function simulate(seed: number, verbose = false): Promise<RunResult> {
  const world = new World(seed, verbose);
  const unhandled = (error: unknown): void => {
    world.fail(`unhandled rejection: ${describe(error)}`);
  };
  process.on("unhandledRejection", unhandled);
  try {
    const run = new Simulation(world);
    await run.run();
    return {
      seed,
      failures: world.failures,
      story: world.story,
      events: world.events,
      blobs: run.truth.head,
      virtualMs: world.nowMs,
    };
  } finally {
    process.off("unhandledRejection", unhandled);
  }
}

class Simulation {
  readonly truth: Truth;
  readonly #world: World;
  readonly #plan: Chance;
  readonly #relay: RelayNode;
  readonly #devices: DeviceNode[] = [];
  readonly #pairings: Pairings;

  constructor(world: World) {
    this.#world = world;
    this.#plan = world.plan;
    this.truth = new Truth(world);
    const plan = this.#plan;
    this.#relay = new RelayNode(
      world,
      this.truth,
      {
        pushesPerS: plan.pick([1, 20, 1_000]),
        pushesBurst: plan.pick([5, 200, 1_000]),
        outboundBytesMax: plan.pick([2_000, 20_000, 4 * 1024 * 1024]),
      },
      disk(plan),
    );
    this.#pairings = new Pairings(world);
    const count = plan.int(2, 5);
    for (let i = 1; i <= count; i++) {
      this.#devices.push(
        new DeviceNode(`device ${i}`, world, this.#relay, this.truth, {
          stream: 10 + i,
          road: road(plan),
          app: { exact: plan.chance(0.5), entriesBuffered: plan.pick([1, 5, 50, 10_000]) },
          habits: disk(plan),
        }),
      );
    }
    this.truth.appliedOf = (deviceId, applied) => {
      const device = this.#devices.find((each) => each.deviceId === deviceId);
      if (device !== undefined && applied > device.ackedEver) {
        world.fail(
          `1: the relay is told that ${device.name} applied ${applied}; it did ${device.ackedEver}`,
        );
      }
    };
  }

  async run(): Promise<void> {
    const world = this.#world;
    const plan = this.#plan;
    this.#relay.start();
    for (const device of this.#devices) await this.#start(device);
    this.#found();
    // Mostly the group stands before anything goes wrong; sometimes nothing is spared.
    if (plan.chance(0.8)) {
      await world.until(() => this.#founder.member, 120_000);
      const second = this.#devices[1] as DeviceNode;
      this.#pairings.begin(this.#founder, second, plan.chance(0.5) ? "link" : "code");
      if (plan.chance(0.8)) await world.until(() => second.member, 120_000);
    }
    const actions = plan.int(10, 60);
    const calm = plan.chance(0.1);
    const paceMs = plan.pick([50, 500, 3_000]);
    for (let i = 0; i < actions && world.failures.length === 0; i++) {
      await world.run(plan.int(0, paceMs));
      this.#act(calm);
    }
    await this.#heal();
  }

  get #founder(): DeviceNode {
    return this.#devices[0] as DeviceNode;
  }

  async #start(device: DeviceNode): Promise<void> {
    const starting = device.start().catch((error: unknown) => {
      this.#world.fail(`${device.name} does not open: ${describe(error)}`);
    });
    void starting;
    await this.#world.until(() => !device.busy, 10_000);
  }

  /** The founder founds until it has: an app that asks again after each refusal. */
  #found(): void {
    const founder = this.#founder;
    const world = this.#world;
    // What was begun goes on by itself; where it does not, the app asks again.
    const again = (): void => {
      const { client } = founder;
      if (founder.member) return;
      if (client === undefined || client.status().connection.state !== "idle") {
        world.after(1_000, again);
        return;
      }
      client.createGroup().then(
        () => world.tell("the group is founded"),
        (error: unknown) => {
          // Asked while it goes on by itself: its own word for that.
          if (!(error instanceof UsageError)) founder.judgeAsked("createGroup", client, error);
          world.after(1_000, again);
        },
      );
      // Where the process dies meanwhile, nobody is told.
      const watch = (): void => {
        if (founder.client !== client) again();
        else if (!founder.member) world.after(30_000, watch);
      };
      world.after(30_000, watch);
    };
    again();
  }

  // --- what happens -----------------------------------------------------------------------------

  #act(calm: boolean): void {
    const plan = this.#plan;
    const device = plan.pick(this.#devices);
    const action = plan.weighted<() => void>([
      [
        30,
        () =>
          device.push(
            plan.weighted([
              [4, 1],
              [2, plan.int(2, 5)],
              [1, plan.int(20, 60)],
            ]),
          ),
      ],
      [5, () => this.#pairSomebody()],
      [4, () => this.#acks(device)],
      [2, () => device.client?.setPresence(plan.pick(["online", "away"]))],
      [2, () => this.#history(device)],
      [2, () => this.#waits(device)],
      ...(calm ? [] : this.#faults(device)),
    ]);
    action();
  }

  #faults(device: DeviceNode): readonly (readonly [number, () => void])[] {
    const plan = this.#plan;
    const world = this.#world;
    const relay = this.#relay;
    return [
      [8, () => this.#cut(device)],
      [3, () => this.#cutOften(device)],
      [3, () => this.#stall([device], plan.int(100, 90_000))],
      [1, () => this.#stall(this.#devices, plan.int(100, 60_000))],
      [2, () => this.#silence(device)],
      [2, () => this.#changeRoad(device)],
      [2, () => this.#breakAfter(device)],
      [6, () => this.#crashRelay()],
      [2, () => this.#drainRelay()],
      [3, () => this.#fillRelay()],
      [1, () => this.#freeze("relay", relay, plan.int(100, 40_000))],
      [8, () => this.#crashDevice(device)],
      [2, () => this.#closeDevice(device)],
      [3, () => this.#fillDevice(device)],
      [2, () => this.#freeze(device.name, device, plan.int(100, 300_000))],
      [
        2,
        () => {
          const ms = plan.pick([-1, 1]) * plan.pick([1_000, 3_600_000, 10 * 365 * 86_400_000]);
          const [name, node] = plan.pick([
            ["relay", relay],
            [device.name, device],
          ] as const);
          world.tell(`the clock of ${name} jumps by ${ms / 1000} s`);
          node.jump(ms);
        },
      ],
      [2, () => device.client?.connect()],
    ];
  }

  #pairSomebody(): void {
    const plan = this.#plan;
    const joiner = this.#devices.find(({ up, member }) => up && !member);
    const inviters = this.#devices.filter(({ up, member }) => up && member);
    if (joiner === undefined || inviters.length === 0 || joiner === this.#founder) return;
    this.#pairings.begin(plan.pick(inviters), joiner, plan.pick(["link", "code"]));
  }

  #acks(device: DeviceNode): void {
    const ms = this.#plan.pick([undefined, 0, 0, 20, 500]);
    this.#world.tell(
      `the app of ${device.name} acknowledges ${ms === undefined ? "nothing" : `within ${ms} ms`}`,
    );
    if (ms === undefined) device.ackMs = undefined;
    else device.resumeAcks(ms);
  }

  #history(device: DeviceNode): void {
    const { client } = device;
    if (client === undefined || !device.member) return;
    const after = this.#plan.int(0, this.truth.head);
    const read = async (): Promise<void> => {
      let cursor = after;
      for await (const entry of client.history({ after })) {
        cursor += 1;
        if (entry.cursor !== cursor || this.truth.at(cursor)?.blobId !== entry.blobId) {
          this.#world.fail(
            `1: ${device.name} reads ${entry.blobId} at ${entry.cursor} of its history`,
          );
        }
      }
    };
    read().catch((error: unknown) => device.judgeAsked("history", client, error));
  }

  #waits(device: DeviceNode): void {
    const { client } = device;
    if (client === undefined || !device.member) return;
    const asked = this.truth.pushed.filter(
      (pushed) => pushed.device === device.deviceId && pushed.blobId !== undefined,
    );
    client.flush().then(
      () => {
        const open = asked.filter(({ blobId }) => this.truth.cursorOf(blobId ?? "") === undefined);
        if (open.length > 0) {
          this.#world.fail(
            `1: flush of ${device.name} resolves; ${open[0]?.name} is not in the log`,
          );
        }
      },
      (error: unknown) => device.judgeAsked("flush", client, error),
    );
  }

  #cut(device: DeviceNode): void {
    if (device.links.length === 0) return;
    this.#world.tell(`the connection of ${device.name} breaks`);
    for (const link of device.links) link.cut();
  }

  #cutOften(device: DeviceNode): void {
    this.#world.tell(`the connection of ${device.name} breaks again and again`);
    for (let i = 0; i < 10; i++) {
      this.#world.after(i * 500, () => {
        for (const link of device.links) link.cut(true);
        device.client?.connect();
      });
    }
  }

  #stall(devices: readonly DeviceNode[], ms: number): void {
    const names = devices.map(({ name }) => name).join(", ");
    this.#world.tell(`nothing gets through to ${names} for ${ms} ms`);
    for (const { road } of devices) {
      road.stalledUntilMs = Math.max(road.stalledUntilMs, this.#world.nowMs + ms);
    }
  }

  #silence(device: DeviceNode): void {
    this.#world.tell(`the connection of ${device.name} goes silent`);
    for (const link of device.links) link.silent = true;
  }

  #changeRoad(device: DeviceNode): void {
    const { latencyMs, jitterMs, bytesPerMs } = road(this.#plan);
    this.#world.tell(
      `${device.name} is on another road: ${latencyMs} to ${latencyMs + jitterMs} ms, ${bytesPerMs ?? "any"} bytes/ms`,
    );
    Object.assign(device.road, { latencyMs, jitterMs, bytesPerMs });
  }

  #breakAfter(device: DeviceNode): void {
    const messages = this.#plan.int(1, 12);
    this.#world.tell(`the next connection of ${device.name} breaks after ${messages} messages`);
    device.road.breakAfter = messages;
    for (const link of device.links) link.cut(true);
  }

  #crashRelay(): void {
    const plan = this.#plan;
    this.#relay.crash(plan.pick(["kept", "lost"]), plan.chance(0.3));
    this.#world.after(plan.pick([0, 100, 5_000, 40_000]), () => this.#relay.start());
  }

  #drainRelay(): void {
    this.#relay.drain().catch((error: unknown) => {
      this.#world.fail(`the relay does not shut down: ${describe(error)}`);
    });
    this.#world.after(this.#plan.int(4_000, 20_000), () => this.#startRelay());
  }

  /** However long it takes to shut down. */
  #startRelay(): void {
    if (this.#relay.draining) this.#world.after(1_000, () => this.#startRelay());
    else this.#relay.start();
  }

  #fillRelay(): void {
    const ms = this.#plan.int(10, 20_000);
    this.#world.tell(`the relay's disk is full for ${ms} ms`);
    this.#relay.full = true;
    this.#world.after(ms, () => {
      this.#relay.full = false;
    });
  }

  #freeze(name: string, node: { freeze(ms: number): void }, ms: number): void {
    this.#world.tell(`${name} stands still for ${ms} ms`);
    node.freeze(ms);
  }

  #crashDevice(device: DeviceNode): void {
    const plan = this.#plan;
    device.crash(plan.chance(0.3));
    this.#startAfter(device, plan.pick([0, 100, 5_000, 60_000]));
  }

  #closeDevice(device: DeviceNode): void {
    device.close().catch((error: unknown) => {
      this.#world.fail(`${device.name} does not close: ${describe(error)}`);
    });
    this.#startAfter(device, this.#plan.pick([1_000, 60_000]));
  }

  #startAfter(device: DeviceNode, ms: number): void {
    this.#world.after(ms, () => {
      device.start().catch((error: unknown) => {
        this.#world.fail(`${device.name} does not open: ${describe(error)}`);
      });
    });
  }

  #fillDevice(device: DeviceNode): void {
    const ms = this.#plan.int(10, 20_000);
    this.#world.tell(`the disk of ${device.name} is full for ${ms} ms`);
    device.full = true;
    this.#world.after(ms, () => {
      device.full = false;
    });
  }

  // --- the end ----------------------------------------------------------------------------------

  async #heal(): Promise<void> {
    const world = this.#world;
    if (world.failures.length > 0) return;
    // What is still to end by itself ends first: nothing new is begun.
    await world.run(this.#plan.pick([0, 1_000, 61_000]));
    world.tell("the faults are over");
    this.#relay.full = false;
    for (const device of this.#devices) {
      device.full = false;
      device.road.stalledUntilMs = 0;
      device.road.breakAfter = undefined;
      device.resumeAcks(0);
    }
    this.#startRelay();
    const keepUp = (): void => {
      for (const device of this.#devices) {
        if (!device.up && !device.busy) this.#startAfter(device, 0);
      }
      this.#startRelay();
      world.after(20_000, keepUp);
    };
    keepUp();
    await world.until(() => this.#founder.member, healMsMax);
    for (const joiner of this.#devices.slice(1)) {
      if (!(await this.#pairings.until(this.#founder, joiner))) return;
    }
    const synced = await world.until(
      () => this.#devices.every((device) => device.inSyncAt(this.truth.head)),
      healMsMax,
    );
    if (world.failures.length > 0) return;
    if (!synced) {
      for (const device of this.#devices) device.tellStatus();
      world.fail(`5: not in sync ${healMsMax / 60_000} minutes after the last fault`);
      return;
    }
    this.#compare();
  }

  /** Everybody holds what was pushed: everything that was queued, once, in the order of the log. */
  #compare(): void {
    const world = this.#world;
    const { truth } = this;
    const log = truth.log.map(({ blobId }) => blobId);
    for (const device of this.#devices) {
      const same =
        device.applied.length === log.length && device.applied.every((id, i) => id === log[i]);
      if (!same) world.fail(`5: ${device.name} holds ${device.applied.length} of ${log.length}`);
      const status = device.client?.status();
      if (status?.inSync !== true) {
        device.tellStatus();
        world.fail(`5: ${device.name} was in sync and is not`);
      }
      if (status?.head !== truth.head) {
        world.fail(`5: ${device.name} knows a head of ${status?.head}; it is ${truth.head}`);
      }
    }
    const batches = new Map<string, number>();
    for (const pushed of truth.pushed) {
      const { blobId, name, device, batch, durable } = pushed;
      if (blobId === undefined) continue;
      const there = truth.cursorOf(blobId) !== undefined;
      if (!there) {
        world.fail(`${durable ? "1: durable" : "2: queued"} ${name} is not in the log`);
      }
      batches.set(`${device} ${batch}`, (batches.get(`${device} ${batch}`) ?? 0) + 1);
    }
    const unasked = log.length - [...truth.queued.keys()].length;
    const unanswered = truth.pushed.filter(({ blobId }) => blobId === undefined).length;
    if (unasked > unanswered) world.fail(`2: ${unasked - unanswered} entries that nobody pushed`);
  }
}

function road(plan: Chance): Road {
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

function disk(plan: Chance): { syncMs: number; slowMs: number; slowShare: number } {
  return plan.pick([
    { syncMs: 0, slowMs: 0, slowShare: 0 },
    { syncMs: 3, slowMs: 50, slowShare: 0.05 },
    { syncMs: 20, slowMs: 2_000, slowShare: 0.02 },
    { syncMs: 100, slowMs: 500, slowShare: 0.1 },
  ]);
}
