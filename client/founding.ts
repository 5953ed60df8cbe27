/**
 * Founds a group: the change was kept on disk before it is submitted, and is submitted, byte for byte
 * the same, until the relay has it or refuses it.
 */
import type { ChangeMembership } from "../gen/syncrelay/sync/v1/membership_pb.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { parseRelayAddress, type RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import { founded } from "./group.ts";
import type { LobbyTask } from "./lobby.ts";
import { Retry } from "./retry.ts";
import { readChain } from "./seal/membership.ts";
import { StateStoreError } from "./state-store.ts";

export class FoundingTask implements LobbyTask {
  readonly address: RelayAddress;
  readonly #core: Core;
  readonly #change: ChangeMembership;
  /** Once: founded, or refused. */
  readonly #finished: (error: unknown) => void;
  /** The relay may have the change. */
  #submitted: boolean;
  #session: Connection | undefined;
  readonly #retry: Retry;

  /** `resumed`: an earlier process of this device may have submitted it. */
  constructor(
    core: Core,
    change: ChangeMembership,
    resumed: boolean,
    finished: (error: unknown) => void,
  ) {
    this.#core = core;
    this.#retry = new Retry(core.host);
    this.#submitted = resumed;
    this.#change = change;
    this.#finished = finished;
    this.address = parseRelayAddress(core.device.relayAddress);
  }

  /** Whether the relay may have the change although it was not heard to say so. */
  get submitted(): boolean {
    return this.#submitted;
  }

  begin(session: Connection): void {
    this.#submitted = true;
    this.#session = session;
    this.#submit(session).catch((error: unknown) => this.#failed(session, error));
  }

  told(_body: ReceivedBody): void {
    // Nobody but the relay's answer matters here.
  }

  end(): void {
    this.#session = undefined;
    this.#retry.cancel();
  }

  stopped(error: Error): void {
    this.#finished(error);
  }

  async #submit(session: Connection): Promise<void> {
    const core = this.#core;
    const answer = await session.request({ case: "changeMembership", value: this.#change });
    if (answer.case !== "membershipAck") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    const chain = readChain([this.#change.controlBlob], {
      groupId: core.groupId,
      keys: core.keys,
    });
    await founded(core, chain, answer.value.logId);
    this.#finished(undefined);
  }

  #failed(session: Connection, error: unknown): void {
    if (error instanceof StateStoreError && error.problem !== "closed") {
      // The relay has it, and this device's disk took no note of that: the same bytes are asked again.
      this.#core.failed(error);
      if (session === this.#session && session.open) this.#later(session, 0);
      return;
    }
    if (!(error instanceof SyncError)) {
      this.#finished(error);
      return;
    }
    // The session is gone: the next one asks again.
    if (session !== this.#session || !session.open) return;
    if (errorRow(error.code).again !== "later") {
      // Refused: the relay does not have it.
      this.#submitted = false;
      this.#finished(error);
      return;
    }
    this.#later(session, error.retryAfterMs);
  }

  #later(session: Connection, advisedMs: number): void {
    this.#retry.after(advisedMs, () => this.begin(session));
  }
}
