/** What a device does on a session without a group. */
import type { LobbyWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import type { SyncError } from "../wire/errors.ts";
import type { RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";

export interface LobbyTask {
  readonly address: RelayAddress;
  /** What it says beside the device's versions. */
  readonly hello?: { readonly groupId: Uint8Array; readonly groupInvite: Uint8Array };
  /** A session stands; perhaps not the first one of this task. */
  begin(session: Connection, welcome: LobbyWelcome): void;
  /** The relay greets the device as a member of the group it named. */
  known?(): void;
  /** The relay ended the session before or behind its greeting; true where the task is over by it. */
  refused?(error: SyncError): boolean;
  /** What the relay says by itself. */
  told(body: ReceivedBody): void;
  /** The session is gone; another one follows unless the task is over. */
  end(): void;
  /** No other session follows by itself: a person or the app must act first. */
  stopped(error: Error): void;
}
