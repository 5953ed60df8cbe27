/** What a device does on a session without a group. */
import type { LobbyWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import type { RelayAddress } from "../wire/relay-address.ts";
import type { Connection, ReceivedBody } from "./connection.ts";

export interface LobbyTask {
  readonly address: RelayAddress;
  /** A session stands; perhaps not the first one of this task. */
  begin(session: Connection, welcome: LobbyWelcome): void;
  /** What the relay says by itself. */
  told(body: ReceivedBody): void;
  /** The session is gone; another one follows unless the task is over. */
  end(): void;
  /** No other session follows by itself: a person or the app must act first. */
  stopped(error: Error): void;
}
