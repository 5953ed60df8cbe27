/** A session by itself, in any of its states, and what a step of it came to. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Envelope, EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { SnapshotUrgency } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { defaultLimits, type RelayLimits } from "../../server/options.ts";
import { pushRateOf, TokenBucket } from "../../server/rate-limit.ts";
import type { LifeNotice } from "../../server/retention.ts";
import {
  type Greeting,
  Session,
  type SessionInput,
  type SessionOutput,
} from "../../server/session.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { ChainDevice, groupId } from "../support/devices.ts";
import { said } from "../support/relay-world.ts";

export const device: ChainDevice = new ChainDevice(1);
/** The key of the session's device in its store. */
export const deviceKey = 11;

export type StateName = "greeting" | "member" | "lobby" | "draining" | "closed";
export const stateNames: readonly StateName[] = [
  "greeting",
  "member",
  "lobby",
  "draining",
  "closed",
];

export const memberGreeting: Extract<Greeting, { kind: "member" }> = {
  kind: "member",
  groupId,
  deviceKey,
  pushes: new TokenBucket(pushRateOf(undefined, defaultLimits), 0),
  sentThrough: 0,
  welcome: { case: "welcome", value: { version: 1 } },
  witnesses: [],
};
export const lobbyGreeting: Greeting = {
  kind: "lobby",
  welcome: { case: "welcome", value: { version: 1 } },
};

/** A group whose log has nothing to tell of its life. */
export const quietNotice = (): LifeNotice => ({
  urgency: SnapshotUrgency.UNSPECIFIED,
  unconfirmed: false,
  replacedThrough: 0n,
});

export const aSyncError: SyncError = new SyncError(ErrorCode.STORE_UNAVAILABLE);

/** A session that has come to a state. */
export function sessionIn(
  state: StateName,
  options: { sentThrough?: number; limits?: Partial<RelayLimits>; wakesDevices?: boolean } = {},
): Session {
  const limits = { ...defaultLimits, ...options.limits };
  const session = new Session(device.id, limits, options.wakesDevices ?? true);
  const step = (input: SessionInput): SessionOutput => session.step(input, 0);
  if (state === "lobby") step({ kind: "greeted", greeting: lobbyGreeting });
  else if (state !== "greeting") {
    step({
      kind: "greeted",
      greeting: {
        ...memberGreeting,
        pushes: new TokenBucket(pushRateOf(undefined, { ...defaultLimits, ...options.limits }), 0),
        sentThrough: options.sentThrough ?? 0,
      },
    });
  }
  if (state === "draining") step({ kind: "drain" });
  if (state === "closed") step({ kind: "end", error: aSyncError });
  return session;
}

type EnvelopeInit = Exclude<MessageInitShape<typeof EnvelopeSchema>, Envelope>;

/** An envelope, as an input. */
export function envelope(requestId: number, body: EnvelopeInit["body"]): SessionInput {
  return {
    kind: "envelope",
    envelope: create(EnvelopeSchema, {
      requestId: BigInt(requestId),
      ...(body === undefined ? {} : { body }),
    }),
  };
}

/** What a step came to, in a few words: what is sent, what is asked of the relay, how it ends. */
export function outcome(output: SessionOutput): string {
  const parts = [
    ...output.send.flatMap((bytes) => decodeEnvelopes(bytes, 1 << 24).map(said)),
    ...output.effects.map((effect) => `→${effect.kind}`),
    ...(output.close === undefined ? [] : [`ends ${output.close.code}`]),
  ];
  return parts.length === 0 ? "-" : parts.join(", ");
}
