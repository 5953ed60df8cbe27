/**
 * Keeps one connection to the relay, for whatever the device needs one for, and brings the parts of
 * the client onto it in order: control chain, then log and outbox.
 *
 *     idle ── connecting ── online ──┐
 *      ↑          ↑  └──── waiting ──┤ lost
 *      └──────────┴─────── stopped ──┘ not by itself
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { DeviceState_Membership } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { DeviceWitness } from "../gen/syncrelay/sync/v1/log_pb.ts";
import {
  Capability,
  type GroupWelcome,
  HelloSchema,
  type Presence,
  PresenceState,
  type Welcome,
} from "../gen/syncrelay/sync/v1/session_pb.ts";
import { emptyBytes } from "../wire/bytes.ts";
import { type EnvelopeBody, toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { logIdBytes } from "../wire/ids.ts";
import { membersMax } from "../wire/limits.ts";
import { protocolVersions, softwareVersion } from "../wire/protocol.ts";
import { parseRelayAddress } from "../wire/relay-address.ts";
import type { Acknowledger } from "./acknowledger.ts";
import type { Additions } from "./additions.ts";
import { CatchingUp } from "./catching-up.ts";
import { Connection, type ReceivedBody } from "./connection.ts";
import type { Core } from "./core.ts";
import type { Group } from "./group.ts";
import type { Inbox } from "./inbox.ts";
import type { Inviting } from "./inviting.ts";
import type { LobbyTask } from "./lobby.ts";
import { meetLog } from "./log-meeting.ts";
import type { MembershipChanges } from "./membership-changes.ts";
import type { Outbox } from "./outbox.ts";
import type { Reader } from "./reader.ts";
import { Backoff, type ConnectionEnd } from "./reconnect.ts";
import type { Refusals } from "./refusals.ts";
import type { Snapshots } from "./snapshots.ts";
import { StateStoreError } from "./state-store.ts";
import type { ConnectionStatus, DeviceInfo } from "./types.ts";
import type { Witnesses } from "./witnesses.ts";

/** The parts that an engine drives. */
export interface EngineParts {
  readonly group: Group;
  readonly additions: Additions;
  readonly changes: MembershipChanges;
  readonly reader: Reader;
  readonly outbox: Outbox;
  readonly inbox: Inbox;
  readonly refusals: Refusals;
  readonly acknowledger: Acknowledger;
  readonly snapshots: Snapshots;
  readonly witnesses: Witnesses;
}

/** Another device's presence, by the relay's word. */
export interface PresenceSeen {
  readonly presence: DeviceInfo["presence"];
  readonly lastSeenMs: number | undefined;
  /** The relay says that its operator refuses the device. */
  readonly refused: boolean;
}

type State =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly connection: Connection }
  | { readonly kind: "online"; readonly connection: Connection }
  | {
      readonly kind: "waiting";
      readonly error: SyncError | StateStoreError;
      readonly untilMs: number;
      readonly cancel: () => void;
    }
  | { readonly kind: "stopped"; readonly error: SyncError | StateStoreError }
  | { readonly kind: "closed" };

export class Engine {
  readonly #core: Core;
  readonly #parts: EngineParts;
  readonly #catchingUp: CatchingUp;
  readonly #backoff = new Backoff();
  readonly #presence = new Map<string, PresenceSeen>();
  /** What was told of devices that the control chain does not show yet. */
  readonly #early: Presence[] = [];
  /** What came before the roster and the log of a session were known. */
  readonly #earlyWitnesses: DeviceWitness[] = [];
  readonly #invites = new Set<Inviting>();
  #state: State = { kind: "idle" };
  #task: LobbyTask | undefined;
  #away = false;
  /** A person asked to connect, whatever spoke against it. */
  #asked = false;

  constructor(core: Core, parts: EngineParts) {
    this.#core = core;
    this.#parts = parts;
    this.#catchingUp = new CatchingUp(parts.group, {
      done: () => {
        parts.outbox.epochMoved();
        this.#seenEarly();
      },
      failed: (connection, error) => this.#failed(connection, error),
    });
  }

  get status(): ConnectionStatus {
    const state = this.#state;
    switch (state.kind) {
      case "waiting":
        return {
          state: "waiting",
          error: state.error,
          retryInMs: Math.max(0, state.untilMs - this.#core.host.monotonicMs()),
        };
      case "stopped":
        return { state: "stopped", error: state.error };
      default:
        return { state: state.kind };
    }
  }

  get task(): LobbyTask | undefined {
    return this.#task;
  }

  presenceOf(device: string): PresenceSeen | undefined {
    return this.#presence.get(device);
  }

  /** Connects, where there is a reason to and nothing speaks against it. */
  start(): void {
    if (this.#state.kind === "idle" && this.#wants()) this.#connect();
  }

  /** Tries again now: a person asked. */
  retry(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "waiting" || state.kind === "stopped" || state.kind === "idle") {
      this.#backoff.reset();
      this.#asked = true;
      this.#state = { kind: "idle" };
      this.start();
    }
  }

  /** Does something on sessions without a group, until `endTask`. */
  beginTask(task: LobbyTask): void {
    this.#task = task;
    this.turn();
  }

  /** The task is over; the device goes on with what it is now. */
  endTask(task: LobbyTask): void {
    if (this.#task !== task) return;
    task.end();
    this.#task = undefined;
    this.turn();
  }

  /** An invite whose mailbox is kept open on every session. */
  addInvite(invite: Inviting): Promise<void> {
    this.#invites.add(invite);
    invite.ended = () => this.#invites.delete(invite);
    const { session } = this.#core;
    return session === undefined ? Promise.resolve() : invite.begin(session);
  }

  setPresence(presence: "online" | "away"): void {
    this.#away = presence === "away";
    const { session } = this.#core;
    if (session !== undefined) this.#tellPresence(session);
  }

  close(): void {
    const state = this.#state;
    this.#state = { kind: "closed" };
    this.#endParts();
    this.#task?.end();
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "connecting" || state.kind === "online") state.connection.close();
  }

  /** Leaves the connection there is: the device, or what it is to do, is another. */
  turn(): void {
    const state = this.#state;
    if (state.kind === "closed") return;
    this.#state = { kind: "idle" };
    if (state.kind === "waiting") state.cancel();
    if (state.kind === "connecting" || state.kind === "online") {
      this.#endParts();
      state.connection.close();
    }
    this.#backoff.reset();
    this.#core.moved();
    this.start();
  }

  #wants(): boolean {
    if (this.#task !== undefined) return true;
    const { membership } = this.#core.device;
    return (
      membership === DeviceState_Membership.MEMBER ||
      membership === DeviceState_Membership.ADMITTED ||
      (membership === DeviceState_Membership.REMOVED && this.#asked)
    );
  }

  #connect(): void {
    const core = this.#core;
    const task = this.#task;
    const told = core.log.read;
    const connection: Connection = new Connection(
      {
        host: core.host,
        address: task?.address ?? parseRelayAddress(core.device.relayAddress),
        keyPair: core.keys.noise,
        hello: this.#hello(task),
        probe: () => this.#probe(),
      },
      {
        welcome: (welcome) => this.#welcomed(connection, task, told, welcome),
        told: (body) => this.#told(connection, body),
        closed: (end) => this.#lost(connection, end),
      },
    );
    this.#state = { kind: "connecting", connection };
    core.moved();
  }

  #hello(task: LobbyTask | undefined): Uint8Array {
    const { log, device } = this.#core;
    const read = {
      logId: log.logId,
      cursor: BigInt(log.read),
      link: log.read === 0 ? emptyBytes : log.link,
    };
    return toBinary(
      HelloSchema,
      create(HelloSchema, {
        versions: protocolVersions,
        client: `sync-relay ${softwareVersion}`,
        capabilities: [Capability.SNAPSHOTS, Capability.OBJECTS],
        ...(task === undefined ? { groupId: device.groupId } : task.hello),
        ...(task === undefined && log.logId.byteLength > 0 ? { read } : {}),
      }),
    );
  }

  /** Something to ask that changes nothing, where the platform cannot ping. */
  #probe(): EnvelopeBody | undefined {
    if (this.#core.session === undefined) return undefined;
    return { case: "ack", value: { applied: BigInt(this.#core.app.applied) } };
  }

  #is(connection: Connection): boolean {
    const state = this.#state;
    return (
      (state.kind === "connecting" || state.kind === "online") && state.connection === connection
    );
  }

  #welcomed(
    connection: Connection,
    task: LobbyTask | undefined,
    told: number,
    welcome: Welcome,
  ): void {
    if (!this.#is(connection)) return;
    this.#backoff.opened(this.#core.host.monotonicMs());
    if (task !== undefined) {
      if (welcome.scope.case === "group" && task.known !== undefined) {
        task.known();
        return;
      }
      if (welcome.scope.case !== "lobby") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
      this.#online(connection);
      task.begin(connection, welcome.scope.value);
      return;
    }
    if (welcome.scope.case !== "group") throw new SyncError(ErrorCode.ENVELOPE_UNEXPECTED);
    const group = welcome.scope.value;
    this.#bringOn(connection, group, told).catch((error: unknown) =>
      this.#failed(connection, error),
    );
  }

  #online(connection: Connection): void {
    this.#state = { kind: "online", connection };
    this.#core.moved();
  }

  /** Control before log: no blob is judged, and none sealed, by a roster or an epoch that is behind. */
  async #bringOn(connection: Connection, welcome: GroupWelcome, told: number): Promise<void> {
    const core = this.#core;
    const { group, additions, changes, reader, outbox, acknowledger, snapshots, witnesses } =
      this.#parts;
    if (welcome.logId.byteLength !== logIdBytes) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    await group.catchUp(connection, welcome.membership);
    if (!this.#is(connection)) return;
    for (const presence of welcome.presence) this.#seen(presence);
    await group.welcomedBack();
    // What an earlier session brought may still be on its way to the disk: the log goes on behind it.
    await reader.settled();
    if (!this.#is(connection)) return;
    await meetLog(
      { core, inbox: this.#parts.inbox, refusals: this.#parts.refusals },
      connection,
      welcome,
      told,
    );
    if (!this.#is(connection)) return;
    core.session = connection;
    this.#online(connection);
    witnesses.take(this.#earlyWitnesses.splice(0));
    reader.begin(connection, welcome);
    await outbox.begin(connection, welcome.own);
    if (!this.#is(connection)) return;
    acknowledger.begin(connection);
    if (this.#away) this.#tellPresence(connection);
    changes.begin(connection);
    for (const invite of this.#invites) invite.resume(connection);
    additions.begin(connection);
    snapshots.begin(connection, welcome);
  }

  #told(connection: Connection, body: ReceivedBody): void {
    if (!this.#is(connection)) return;
    if (this.#task !== undefined) {
      this.#task.told(body);
      return;
    }
    const { reader, witnesses, snapshots } = this.#parts;
    switch (body.case) {
      case "deliver":
        reader.deliver(connection, body.value);
        return;
      case "notify": {
        const { head, membership } = body.value;
        if (membership !== undefined) this.#catchingUp.told(connection, membership);
        reader.notify(toNumber(head));
        snapshots.told(body.value);
        return;
      }
      case "witnesses":
        // Until the roster is known, nobody knows whose they are.
        if (this.#state.kind === "online") witnesses.take(body.value.witnesses);
        else if (this.#earlyWitnesses.length < membersMax) {
          this.#earlyWitnesses.push(...body.value.witnesses);
        }
        return;
      case "presence":
        this.#seen(body.value);
        return;
      case "inviteMessage":
      case "closeInvite":
        for (const invite of this.#invites) invite.told(body);
        return;
      default:
        // What a newer relay says beside this is not for this version.
        return;
    }
  }

  /** Of members, and of nobody else: a relay could invent any number. */
  #seen(presence: Presence): void {
    const device = this.#parts.inbox.senderText(presence.deviceId);
    if (device === this.#core.deviceText) return;
    if (this.#core.chain?.devices.has(device) !== true) {
      // Perhaps a newcomer, whose addition is on its way.
      if (this.#early.length < membersMax) this.#early.push(presence);
      return;
    }
    const seen: PresenceSeen = {
      presence: presenceNames[presence.state] ?? "offline",
      lastSeenMs: presence.lastSeenMs === 0n ? undefined : toNumber(presence.lastSeenMs),
      refused: presence.refused,
    };
    const before = this.#presence.get(device);
    this.#presence.set(device, seen);
    this.#core.events.emit("presence", {
      deviceId: device,
      presence: seen.presence,
      refusedByRelay: seen.refused,
      ...(seen.lastSeenMs === undefined ? {} : { lastSeenMs: seen.lastSeenMs }),
    });
    if (seen.refused !== (before?.refused ?? false)) this.#core.moved();
  }

  #seenEarly(): void {
    for (const presence of this.#early.splice(0)) this.#seen(presence);
  }

  #tellPresence(connection: Connection): void {
    const state = this.#away ? PresenceState.AWAY : PresenceState.ONLINE;
    connection.request({ case: "presence", value: { state } }).catch((error: unknown) => {
      if (!(error instanceof SyncError)) throw error;
      // The next session says it again; nothing depends on it.
    });
  }

  /** What cannot be gone on with on this session. */
  #failed(connection: Connection, error: unknown): void {
    if (error instanceof StateStoreError) {
      if (this.#state.kind === "closed") return;
      this.#core.failed(error);
      connection.close(new SyncError(ErrorCode.CONNECTION_LOST, { cause: error }));
    } else if (error instanceof SyncError) {
      connection.close(error);
    } else {
      throw error;
    }
  }

  #lost(connection: Connection, end: ConnectionEnd): void {
    if (!this.#is(connection)) return;
    this.#endParts();
    this.#task?.end();
    const { host, device } = this.#core;
    const { error } = end;
    if (end.certain && this.#task?.refused?.(error) === true) return;
    // Being admitted means not to be a member yet: it is asked for again like a lost connection.
    const admitting =
      device.membership === DeviceState_Membership.ADMITTED &&
      (error.code === ErrorCode.NOT_A_MEMBER ||
        error.code === ErrorCode.DEVICE_UNKNOWN ||
        error.code === ErrorCode.KEY_MISSING);
    const judged = admitting ? { ...end, certain: false } : end;
    const waitMs = this.#backoff.ended(judged, host.monotonicMs(), host.uniform());
    const shown =
      error.cause instanceof StateStoreError ? error.cause : claimOf(error, device.membership);
    if (waitMs === undefined) {
      this.#asked = false;
      if (this.#task === undefined && error.code === ErrorCode.DEVICE_REVOKED) this.#revoked(error);
      this.#state = { kind: "stopped", error: shown };
      this.#task?.stopped(shown);
    } else if (end.renew === true) {
      this.#state = { kind: "idle" };
      this.#connect();
      return;
    } else {
      const cancel = host.setTimer(waitMs, () => {
        if (this.#state.kind !== "waiting") return;
        this.#state = { kind: "idle" };
        this.start();
      });
      const untilMs = host.monotonicMs() + waitMs;
      this.#state = { kind: "waiting", error: shown, untilMs, cancel };
    }
    this.#core.moved();
  }

  /** Removed by the group, or refused by the operator: the one is kept, the other only shown. */
  #revoked(error: SyncError): void {
    if (isByOperator(error)) return;
    this.#parts.group.removedHere().then(
      () => this.giveUp(error),
      (failure: unknown) => {
        if (!(failure instanceof StateStoreError)) throw failure;
        // Not written: the next session is told again.
        if (failure.problem !== "closed") this.#core.failed(failure);
      },
    );
  }

  /** Nobody needs to wait any longer for what this device was to change in its group. */
  giveUp(error: SyncError): void {
    this.#parts.changes.giveUp(error);
    // The invites first: an addition that is kept is not forgotten with the invite it came by.
    for (const invite of this.#invites) invite.giveUp(error);
    this.#parts.additions.giveUp(error);
  }

  #endParts(): void {
    this.#catchingUp.end();
    this.#parts.changes.end();
    this.#parts.additions.end();
    this.#parts.snapshots.end();
    const { reader, outbox, acknowledger, witnesses, inbox } = this.#parts;
    this.#core.session = undefined;
    reader.end();
    outbox.end();
    acknowledger.end();
    witnesses.end();
    for (const invite of this.#invites) invite.end();
    this.#presence.clear();
    this.#early.length = 0;
    this.#earlyWitnesses.length = 0;
    inbox.wake();
  }
}

function isByOperator({ detail }: SyncError): boolean {
  return detail?.case === "revocation" && detail.value.byOperator === true;
}

/** What the relay says of this device, and what a person can do about it. */
function claimOf(error: SyncError, membership: DeviceState_Membership): SyncError {
  if (error.code === ErrorCode.NOT_A_MEMBER && membership === DeviceState_Membership.MEMBER) {
    return new SyncError(error.code, {
      hint:
        "the relay does not know this device in its group: where it was restored from a backup or " +
        "set up anew, reconnect with a group invite from its operator",
    });
  }
  if (error.code !== ErrorCode.DEVICE_REVOKED || error.hint !== undefined) return error;
  const { detail } = error;
  return new SyncError(error.code, {
    hint: isByOperator(error)
      ? "the relay says that its operator refuses this device; the group has not removed it"
      : "what it had, and what was queued, is still here",
    ...(detail === undefined ? {} : { detail }),
  });
}

const presenceNames: Readonly<Partial<Record<PresenceState, DeviceInfo["presence"]>>> = {
  [PresenceState.ONLINE]: "online",
  [PresenceState.AWAY]: "away",
  [PresenceState.OFFLINE]: "offline",
};
