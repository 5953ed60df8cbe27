/** The relay: one session in each of its states, a whole relay with several, and its configuration. */
import assert from "node:assert/strict";
import type { Envelope } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { ConfigError, readConfig } from "../../server/config/config.ts";
import type { Session, SessionEffect, SessionInput } from "../../server/session.ts";
import { concatBytes, utf8 } from "../../wire/bytes.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, errorRow, SyncError } from "../../wire/errors.ts";
import { sessionIn, stateNames } from "../session/support.ts";
import { ChainDevice, groupId } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";
import type { Target } from "./engine.ts";
import { encodeScript, readScript } from "./script.ts";
import { requestEnvelopes, vectorEnvelopes } from "./valid.ts";

const envelopeBytesMax = 1 << 21;

/** What the relay would answer; `kind` decides whether it refuses. */
function answered(effect: SessionEffect, kind: number): SessionInput | undefined {
  if (effect.kind === "greet") return undefined;
  if (effect.kind === "read") {
    const page = { through: effect.pull.after + 1, fields: [], bytes: 200 };
    return { kind: "page", pull: effect.pull, page, head: effect.pull.after + (kind % 3) };
  }
  const { requestId } = effect;
  if (kind % 4 === 0) {
    const codes = [ErrorCode.LINK_CONFLICT, ErrorCode.STORE_UNAVAILABLE, ErrorCode.READ_ONLY];
    const error = new SyncError(codes[kind % codes.length] as ErrorCode);
    return { kind: "refused", requestId, error };
  }
  if (effect.kind === "push") {
    return { kind: "stored", requestId, cursors: effect.push.blobs.map((_, i) => i + 1) };
  }
  return { kind: "answer", requestId, body: { case: "done", value: {} } };
}

/** Steps a session, and what its steps ask for, and holds it to what every session keeps. */
function stepAll(session: Session, envelopes: readonly Envelope[], kind: number): string {
  let last = "-";
  for (const [i, envelope] of envelopes.entries()) {
    const waiting: SessionInput[] = [{ kind: "envelope", envelope }];
    // A pull asks for page after page: as many as a window of 16 MiB lets through in 200 bytes would
    // say nothing new.
    for (let steps = 0; waiting.length > 0 && steps < 20; steps++) {
      const closed = session.state.kind === "closed";
      const output = session.step(waiting.shift() as SessionInput, i * 10);
      for (const sent of output.send) decodeEnvelopes(sent, envelopeBytesMax);
      if (closed) {
        assert.equal(output.send.length + output.effects.length, 0, "closed: nothing");
      }
      if (output.close !== undefined) {
        assert(errorRow(output.close.code).sent, "what ends a session can be told");
        assert.equal(session.state.kind, "closed");
        return `ends ${output.close.codeName}`;
      }
      for (const effect of output.effects) {
        last = effect.kind;
        const input = answered(effect, kind);
        if (input !== undefined) waiting.push(input);
      }
      if (output.refused !== undefined) last = `refused ${output.refused}`;
    }
  }
  return last;
}

const valid: readonly Uint8Array[] = requestEnvelopes();

/** The head chooses the state, and how the relay answers. */
const session: Target = {
  name: "relay-session",
  structured: true,
  weight: 25,
  seeds: () => [
    ...stateNames.flatMap((_, i) => [encodeScript(i, valid), encodeScript(i + 16, valid)]),
    ...valid.map((one) => encodeScript(1, [one])),
    ...valid.map((one) => encodeScript(2, [one, one])),
    encodeScript(17, valid.toReversed()),
    ...vectorEnvelopes().map((one) => encodeScript(1, [one])),
  ],
  run: (input) => {
    const { head, parts } = readScript(input);
    const name = stateNames[(head & 15) % stateNames.length] as (typeof stateNames)[number];
    const plaintext = concatBytes(...parts.map(({ envelope }) => envelope));
    const envelopes = decodeEnvelopes(plaintext, envelopeBytesMax);
    return `${name} ${stepAll(sessionIn(name), envelopes, head >> 4)}`;
  },
};

/** Envelopes of two members and of a device without a group, to a whole relay. */
const whole: Target = {
  name: "relay-whole",
  structured: true,
  weight: 0.3,
  seeds: () => [
    encodeScript(0, valid),
    encodeScript(1, valid, 2),
    ...valid.map((one) =>
      concatBytes(encodeScript(0, [one]), encodeScript(1, [one, one], 2), encodeScript(2, [one])),
    ),
  ],
  run: async (input) => {
    const world = new RelayWorldUnderTest({ limits: { outboundBytesMax: 20_000 } });
    const devices = [new ChainDevice(1), new ChainDevice(2)];
    await world.found(...devices);
    const peers: Peer[] = [];
    for (const device of devices) peers.push(await world.member(device));
    peers.push(await world.lobby(new ChainDevice(3).id));
    const { head: pace, parts } = readScript(input);
    for (const [i, { who, envelope }] of parts.entries()) {
      const peer = peers[who % peers.length] as Peer;
      if (peer.endedWith === undefined) peer.session.receive(envelope);
      if (i % (1 + (pace & 3)) === 0) await settled();
    }
    world.pass(1_000);
    await settled();
    await settled();
    assert.deepEqual(world.defects, []);
    assert.equal(world.relay.queuedBytes, 0);
    assert.equal(world.relay.storeBytes, (await world.store.totals()).bytes);
    const { head = 0 } = (await world.store.loadGroup(groupId))?.group ?? {};
    const rows = await world.store.readBlobs(1, 0, 1e9, { rowsMax: 1e6, bytesMax: 1e9 });
    assert.equal(rows.length, head, "no hole");
    const ends = peers.map((peer) => peer.endedWith ?? "-").join(" ");
    return `${ends}, ${Math.min(head, 4)} blobs`;
  },
};

const toml: Target = {
  name: "config-toml",
  weight: 2,
  seeds: () =>
    [
      'data = "/var/lib/sync-relay"\nlisten = "0.0.0.0:8080"\nfounding = "invite"\n',
      "[limits]\nblob_bytes_max = 1048576\ngroup_bytes_max = 104857600\n",
      '[network]\ntrusted_proxies = ["127.0.0.1", "10.0.0.0/8"] # behind a tunnel\n[side]\nlisten = "127.0.0.1:8081"\n',
    ].map(utf8),
  run: (input) => {
    try {
      readConfig({
        file: { path: "relay.toml", text: new TextDecoder().decode(input) },
        environment: {},
        flags: [],
      });
      return "read";
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return "ConfigError";
    }
  },
};

export const relayTargets: readonly Target[] = [session, whole, toml];
