/** Devices that let others into their group, in the middle of everything. */
import type { Invite } from "../../client/index.ts";
import { Chance } from "./chance.ts";
import type { DeviceNode } from "./device-node.ts";
import type { World } from "./world.ts";

/** One try may last as long as its invite. */
const tryMs = 11 * 60_000;
const triesMax = 6;

export class Pairings {
  readonly #world: World;
  readonly #chance: Chance;
  readonly #joining = new Map<DeviceNode, object>();

  constructor(world: World, stream: number) {
    this.#world = world;
    this.#chance = new Chance(world.seed, stream);
  }

  /** An app has one way into a group under way; a process that died has none. */
  claim(joiner: DeviceNode): boolean {
    const { client } = joiner;
    if (client === undefined || this.#joining.get(joiner) === client) return false;
    this.#joining.set(joiner, client);
    return true;
  }

  free(joiner: DeviceNode, client: object): void {
    if (this.#joining.get(joiner) === client) this.#joining.delete(joiner);
  }

  /** One device invites, the other joins. Either may be gone before it comes about. */
  begin(inviter: DeviceNode, joiner: DeviceNode, means: "link" | "code"): void {
    const world = this.#world;
    const { client } = inviter;
    const joining = joiner.client;
    if (client === undefined || joining === undefined) return;
    if (!this.claim(joiner)) return;
    const over = (): void => this.free(joiner, joining);
    world.tell(`${inviter.name} invites ${joiner.name} by ${means}`);
    const confirm = async (): Promise<boolean> => {
      await world.sleep(this.#chance.pick([0, 100, 3_000]));
      return this.#chance.chance(0.95);
    };
    client.invite({ confirm }).then(
      (invite: Invite) => {
        invite.done.then(
          (device) => world.tell(`${inviter.name} has added ${device.name}`),
          (error: unknown) => world.tell(`${inviter.name}: the invite ends: ${String(error)}`),
        );
        if (joiner.client !== joining || joiner.member) {
          over();
          invite.cancel().catch((error: unknown) => inviter.judgeAsked("cancel", client, error));
          return;
        }
        joining.join(means === "link" ? invite.link : invite.code).then(
          () => {
            over();
            world.tell(`${joiner.name} has joined`);
            if (joiner.client === joining && !joiner.member) {
              world.fail(`${joiner.name} has joined and is no member`);
            }
          },
          (error: unknown) => {
            over();
            joiner.judgeAsked("join", joining, error);
          },
        );
      },
      (error: unknown) => {
        over();
        inviter.judgeAsked("invite", client, error);
      },
    );
    // An inviting process that dies takes the invite with it, and answers nobody.
    world.after(tryMs, over);
  }

  /** With nothing in the way, a device gets in; or somebody removes it, which is an answer, too. */
  async until(inviterOf: () => DeviceNode | undefined, joiner: DeviceNode): Promise<boolean> {
    const world = this.#world;
    for (let i = 0; i < triesMax && world.failures.length === 0; i++) {
      await world.until(() => inviterOf() !== undefined && joiner.up, tryMs);
      if (joiner.member || joiner.removed) return true;
      const inviter = inviterOf();
      if (joiner.membership === "admitted") {
        // Whoever was to add it may be gone.
        if (await world.until(() => joiner.member || joiner.removed, tryMs)) return true;
        const { client } = joiner;
        world.tell(`${joiner.name} waits no longer to be admitted`);
        client?.giveUpAdmission().catch((error: unknown) => {
          joiner.judgeAsked("giveUpAdmission", client, error);
        });
        await world.until(() => joiner.membership !== "admitted", 60_000);
      }
      if (inviter !== undefined) this.begin(inviter, joiner, this.#chance.pick(["link", "code"]));
      if (await world.until(() => joiner.member || joiner.removed, tryMs)) return true;
    }
    if (joiner.member || joiner.removed) return true;
    joiner.tellStatus();
    inviterOf()?.tellStatus();
    world.fail(`${joiner.name} does not get in`);
    return false;
  }
}
