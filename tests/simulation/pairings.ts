/** Devices that let others into their group, in the middle of everything. */
import type { Invite } from "../../client/index.ts";
import type { DeviceNode } from "./device-node.ts";
import type { World } from "./world.ts";

/** One try may last as long as its invite. */
const tryMs = 11 * 60_000;
const triesMax = 6;

export class Pairings {
  readonly #world: World;
  readonly #joining = new Map<DeviceNode, object>();

  constructor(world: World) {
    this.#world = world;
  }

  /** One device invites, the other joins. Either may be gone before it comes about. */
  begin(inviter: DeviceNode, joiner: DeviceNode, means: "link" | "code"): void {
    const world = this.#world;
    const { client } = inviter;
    const joining = joiner.client;
    // An app has one join under way; a process that died has none.
    if (client === undefined || joining === undefined) return;
    if (this.#joining.get(joiner) === joining) return;
    this.#joining.set(joiner, joining);
    const over = (): void => {
      if (this.#joining.get(joiner) === joining) this.#joining.delete(joiner);
    };
    world.tell(`${inviter.name} invites ${joiner.name} by ${means}`);
    const confirm = async (): Promise<boolean> => {
      await world.sleep(world.plan.pick([0, 100, 3_000]));
      return world.plan.chance(0.95);
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

  /** With nothing in the way, a device gets in. */
  async until(inviter: DeviceNode, joiner: DeviceNode): Promise<boolean> {
    const world = this.#world;
    for (let i = 0; i < triesMax && world.failures.length === 0; i++) {
      await world.until(() => inviter.member && joiner.up, tryMs);
      if (joiner.member) return true;
      this.begin(inviter, joiner, world.plan.pick(["link", "code"]));
      if (await world.until(() => joiner.member, tryMs)) return true;
    }
    if (joiner.member) return true;
    joiner.tellStatus();
    inviter.tellStatus();
    world.fail(`${joiner.name} does not get in`);
    return false;
  }
}
