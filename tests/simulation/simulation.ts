/**
 * One run: a relay and its devices, things that happen to them step by step, the end of all faults,
 * and what must be so then. Everything follows from the seed, and from the steps that are left out:
 * each step has chance of its own, so that the others stay what they are.
 */
import { UsageError } from "../../client/index.ts";
import { Asks } from "./asks.ts";
import { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import { Faults } from "./faults.ts";
import { ObjectAsks } from "./object-asks.ts";
import { Quiescence } from "./quiescence.ts";
import { Restores } from "./restores.ts";
import { Scene } from "./scene.ts";
import { describe, World } from "./world.ts";

export interface RunResult {
  readonly seed: number;
  readonly failures: readonly string[];
  readonly story: readonly string[];
  readonly events: number;
  readonly blobs: number;
  readonly virtualMs: number;
}

export interface SimulationResult extends RunResult {
  /** How many steps there were, left out or not. */
  readonly steps: number;
  /** The group came apart as no device could help: nothing was asked of it in the end. */
  readonly cut: boolean;
}

export interface RunOptions {
  readonly verbose?: boolean;
  /** Steps that are left out, by their numbers from 1. */
  readonly without?: ReadonlySet<number>;
}

/** The first stream of steps; others have lower ones. */
const stepStream = 1_000;

/** Runs one seed. */
export async function simulate(seed: number, options: RunOptions = {}): Promise<SimulationResult> {
  const world = new World(seed, options.verbose);
  const unhandled = (error: unknown): void => {
    world.fail(`unhandled rejection: ${describe(error)}`);
  };
  process.on("unhandledRejection", unhandled);
  try {
    const run = new Simulation(world, options.without ?? new Set());
    const steps = await run.run();
    const { truth } = run.scene;
    return {
      seed,
      failures: world.failures,
      story: world.story,
      steps,
      events: world.events,
      blobs: truth.head,
      virtualMs: world.nowMs,
      cut: truth.membershipForked,
    };
  } finally {
    process.off("unhandledRejection", unhandled);
  }
}

class Simulation {
  readonly scene: Scene;
  readonly #world: World;
  readonly #without: ReadonlySet<number>;
  readonly #asks: Asks;
  readonly #faults: Faults;
  readonly #restores: Restores;
  readonly #objects: ObjectAsks;

  constructor(world: World, without: ReadonlySet<number>) {
    this.#world = world;
    this.#without = without;
    this.scene = new Scene(world);
    this.#asks = new Asks(this.scene);
    this.#faults = new Faults(this.scene);
    this.#restores = new Restores(this.scene);
    this.#objects = new ObjectAsks(this.scene);
  }

  async run(): Promise<number> {
    const world = this.#world;
    const { plan } = world;
    const { relay, devices, pairings, truth } = this.scene;
    relay.start();
    for (const device of devices) {
      this.scene.startAfter(device, 0);
      await world.until(() => device.up, 10_000);
    }
    this.#found();
    // Mostly the group stands before anything goes wrong; sometimes nothing is spared.
    const standing = plan.chance(0.8);
    const means = plan.pick(["link", "code"] as const);
    const both = plan.chance(0.8);
    if (standing) {
      await world.until(() => this.#founder.member, 120_000);
      const second = devices[1] as DeviceNode;
      pairings.begin(this.#founder, second, means);
      if (both) await world.until(() => second.member, 120_000);
    }
    const steps = plan.int(10, 60);
    const calm = plan.chance(0.1);
    const paceMs = plan.pick([50, 500, 3_000]);
    for (let step = 1; step <= steps && world.failures.length === 0; step++) {
      if (truth.membershipForked) break;
      const chance = new Chance(world.seed, stepStream + step);
      await world.run(chance.int(0, paceMs));
      if (this.#without.has(step)) continue;
      world.step = step;
      this.#act(chance, calm);
      world.step = 0;
    }
    await new Quiescence(this.scene, this.#faults, this.#objects).come(
      new Chance(world.seed, stepStream - 1),
    );
    return steps;
  }

  get #founder(): DeviceNode {
    return this.scene.devices[0] as DeviceNode;
  }

  #act(plan: Chance, calm: boolean): void {
    const device = plan.pick(this.scene.devices);
    const happen = plan.weighted<() => void>([
      ...this.#asks.choices(device, plan),
      ...this.#restores.choices(device, plan),
      ...this.#objects.choices(device, plan),
      ...(calm ? [] : this.#faults.choices(device, plan)),
    ]);
    happen();
  }

  /** The founder founds until it has: an app that asks again after each refusal. */
  #found(): void {
    const founder = this.#founder;
    const world = this.#world;
    // What was begun goes on by itself; where it does not, the app asks again.
    const again = (): void => {
      const { client } = founder;
      if (founder.member || founder.removed) return;
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
}
