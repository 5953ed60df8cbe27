/**
 * One side of a pairing mailbox: numbered messages each way that survive lost connections and a
 * restarted relay, because each side keeps what it sent and sends again what the mailbox lacks.
 */
import type { InviteMessage, InviteOpened } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import type { Connection } from "./connection.ts";

export class Mailbox {
  readonly rendezvousId: Uint8Array;
  readonly #side: "open" | "join";
  /** How many of the other side's messages were taken. */
  #received = 0;
  readonly #sent: Uint8Array[] = [];
  #session: Connection | undefined;

  constructor(side: "open" | "join", rendezvousId: Uint8Array) {
    this.#side = side;
    this.rendezvousId = rendezvousId;
  }

  /** Opens it, or returns to it, and sends what it lacks. */
  async begin(session: Connection): Promise<InviteOpened> {
    const value = { rendezvousId: this.rendezvousId, received: this.#received };
    const answer = await session.request(
      this.#side === "open" ? { case: "openInvite", value } : { case: "joinInvite", value },
    );
    if (answer.case !== "inviteOpened") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    this.#session = session;
    const has = answer.value.stored;
    await Promise.all(this.#sent.slice(has).map((_, i) => this.#post(session, has + i)));
    return answer.value;
  }

  end(): void {
    this.#session = undefined;
  }

  /** Sends a message; resolves when the mailbox has it. Without a session it goes with the next. */
  async send(data: Uint8Array): Promise<void> {
    this.#sent.push(data);
    if (this.#session !== undefined) await this.#post(this.#session, this.#sent.length - 1);
  }

  /** The data of the next message, where it is that; older ones come again after a reconnect. */
  take(message: InviteMessage): Uint8Array | undefined {
    if (!equalBytes(message.rendezvousId, this.rendezvousId)) return undefined;
    if (message.number !== this.#received + 1) return undefined;
    this.#received += 1;
    return message.data;
  }

  async #post(session: Connection, index: number): Promise<void> {
    await session.request({
      case: "inviteMessage",
      value: {
        rendezvousId: this.rendezvousId,
        number: index + 1,
        data: this.#sent[index] as Uint8Array,
      },
    });
  }
}
