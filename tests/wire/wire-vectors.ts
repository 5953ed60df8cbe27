/** The shape of tests/vectors/wire.json, and how its parts are computed. */
import { create, fromJson, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes, fromHex, toHex } from "../../wire/bytes.ts";
import { Handshake, keyPairOf, type Transport } from "../../wire/channel.ts";
import { sizeDelimited } from "../../wire/envelope.ts";

export interface WireVectors {
  readonly about: readonly string[];
  readonly session: SessionVector;
  /** Records of `byte` repeated, sealed by the device as its first; the hash is BLAKE2b-256. */
  readonly record_sizes: readonly RecordSizeVector[];
  readonly envelopes: readonly EnvelopeVector[];
  readonly accepted_plaintexts: readonly {
    readonly why: string;
    readonly plaintext: string;
    readonly envelopes: JsonValue[];
  }[];
  readonly refused_plaintexts: readonly RefusedVector[];
  readonly refused_records: readonly {
    readonly why: string;
    readonly record: string;
    readonly code: number;
  }[];
  readonly fingerprints: readonly { readonly key: string; readonly fingerprint: string }[];
  readonly links: readonly LinkVector[];
  readonly addresses: readonly AddressVector[];
}

export interface SessionInputs {
  readonly prologue: string;
  readonly device_static: string;
  readonly device_ephemeral: string;
  readonly relay_static: string;
  readonly relay_ephemeral: string;
  readonly hello: JsonValue;
  /** Envelopes of the device's first record, in order. */
  readonly record_envelopes: readonly JsonValue[];
}

export interface SessionVector extends SessionInputs {
  readonly device_id: string;
  readonly relay_key: string;
  readonly messages: readonly { readonly payload: string; readonly message: string }[];
  readonly handshake_hash: string;
  readonly record_plaintext: string;
  readonly record: string;
}

export interface RecordSizeVector {
  readonly byte: number;
  readonly plaintext_bytes: number;
  readonly record_bytes: number;
  readonly record_hash: string;
}

export interface EnvelopeVector {
  readonly envelope: JsonValue;
  /** Size-delimited. */
  readonly bytes: string;
}

export interface RefusedVector {
  readonly why: string;
  readonly plaintext: string;
  readonly envelope_bytes_max: number;
  readonly code: number;
}

export interface LinkVector {
  readonly group_id: string;
  readonly sender: string;
  readonly blob_id: string;
  readonly header: string;
  readonly link: string;
}

export interface AddressVector {
  readonly text: string;
  /** Absent: refused. */
  readonly url?: string;
  readonly relay_key?: string;
  readonly canonical?: string;
}

/** One envelope from its protobuf JSON, size-delimited. */
export function envelopeFromJson(json: JsonValue): Uint8Array {
  return sizeDelimited(toBinary(EnvelopeSchema, fromJson(EnvelopeSchema, json)));
}

/** `Hello` from its protobuf JSON; an empty one where it is null. */
function helloFromJson(json: JsonValue): Uint8Array {
  const hello = json === null ? create(HelloSchema) : fromJson(HelloSchema, json);
  return toBinary(HelloSchema, hello);
}

/** The handshake of a session vector, and what its sides hold after it. */
export function runSession(inputs: SessionInputs): {
  device: Transport;
  relay: Transport;
  messages: { payload: string; message: string }[];
} {
  const shared = { prologue: fromHex(inputs.prologue) };
  const device = new Handshake({
    ...shared,
    role: "initiator",
    keyPair: keyPairOf(fromHex(inputs.device_static)),
    ephemeralSecret: fromHex(inputs.device_ephemeral),
  });
  const relay = new Handshake({
    ...shared,
    role: "responder",
    keyPair: keyPairOf(fromHex(inputs.relay_static)),
    ephemeralSecret: fromHex(inputs.relay_ephemeral),
  });
  const none = new Uint8Array(0);
  const messages = [none, none, helloFromJson(inputs.hello)].map((payload, i) => {
    const [writer, reader] = i === 1 ? [relay, device] : [device, relay];
    const message = writer.write(payload);
    reader.read(message);
    return { payload: toHex(payload), message: toHex(message) };
  });
  return { device: device.finish(), relay: relay.finish(), messages };
}

/** The plaintext of the session's record. */
export function recordPlaintext(inputs: SessionInputs): Uint8Array {
  return concatBytes(...inputs.record_envelopes.map(envelopeFromJson));
}
