/**
 * A member that a restored relay no longer knows, or whose group it has lost, comes back by a group
 * invite: on a session without a group it submits the control blobs that the relay lacks, from the
 * founding one where need be. After that it is a member there as ever.
 */
import type { LobbyWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { ErrorCode, errorRow, SyncError } from "../wire/errors.ts";
import { parseRelayAddress, type RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import type { Group } from "./group.ts";
import type { LobbyTask } from "./lobby.ts";
import { Retry } from "./retry.ts";
import { StateStoreError } from "./state-store.ts";

export class ReturningTask implements LobbyTask {
  readonly address: RelayAddress;
  readonly hello: { readonly groupId: Uint8Array; readonly groupInvite: Uint8Array };
  readonly #core: Core;
  readonly #group: Group;
  readonly #retry: Retry;
  /** Once: the relay has the whole chain, or will not. */
  readonly #finished: (error: unknown) => void;
  #session: Connection | undefined;

  constructor(core: Core, group: Group, invite: Uint8Array, finished: (error: unknown) => void) {
    this.#core = core;
    this.#group = group;
    this.#retry = new Retry(core.host);
    this.#finished = finished;
    this.address = parseRelayAddress(core.device.relayAddress);
    this.hello = { groupId: core.groupId, groupInvite: invite };
  }

  begin(session: Connection, welcome: LobbyWelcome): void {
    this.#session = session;
    const summary = welcome.groups.find(({ groupId }) => equalBytes(groupId, this.#core.groupId));
    if (summary === undefined) {
      // A relay that knows nothing of coming back greets it like anybody.
      this.#finished(new SyncError(ErrorCode.ENVELOPE_UNEXPECTED));
      return;
    }
    this.#group.bringBack(session, summary.membership).then(
      (all) => {
        if (all) this.#finished(undefined);
        // Another member is faster: on another session this device may be known already.
        else this.#retry.after(0, () => session.close());
      },
      (error: unknown) => this.#failed(session, error),
    );
  }

  /** The relay knows this device: another member, or an earlier try, has brought it back. */
  known(): void {
    this.#finished(undefined);
  }

  told(_body: ReceivedBody): void {
    // Nobody but the relay's answers matters here.
  }

  end(): void {
    this.#session = undefined;
    this.#retry.cancel();
  }

  stopped(error: Error): void {
    this.#finished(error);
  }

  /** Refused before it was greeted. */
  refused(error: SyncError): boolean {
    const final = errorRow(error.code).again !== "later";
    if (final) this.#finished(error);
    return final;
  }

  #failed(session: Connection, error: unknown): void {
    if (!(error instanceof SyncError) || error instanceof StateStoreError) {
      this.#finished(error);
      return;
    }
    // The session is gone: the next one goes on where this one came to.
    if (session !== this.#session || !session.open) return;
    if (errorRow(error.code).again === "later") {
      this.#retry.after(error.retryAfterMs, () => session.close());
      return;
    }
    this.#finished(error);
  }
}
