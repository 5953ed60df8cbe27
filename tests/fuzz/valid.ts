/** Valid envelopes to begin with: one of each kind from the vectors, and requests that fit together. */

import { fromHex } from "../../wire/bytes.ts";
import { type EnvelopeBody, encodeEnvelope } from "../../wire/envelope.ts";
import { bytes, ChainDevice, changeOf, foundingOf, pushOf } from "../support/devices.ts";
import { readVectors } from "../wire/support.ts";
import type { WireVectors } from "../wire/wire-vectors.ts";

/** Size-delimited, of every kind the protocol has. */
export function vectorEnvelopes(): Uint8Array[] {
  return readVectors<WireVectors>("wire.json").envelopes.map((one) => fromHex(one.bytes));
}

/** Requests of devices 1 and 2, as they would make them one after another. */
export function requestBodies(): EnvelopeBody[] {
  const device = new ChainDevice(1);
  const other = new ChainDevice(2);
  const founded = foundingOf(device.id, [device.id, other.id]);
  const rotated = changeOf({
    author: device.id,
    at: founded.after,
    epoch: 2,
    members: [device.id, other.id],
  });
  const removed = changeOf({
    author: device.id,
    at: rotated.after,
    epoch: 3,
    members: [device.id],
    closings: [{ id: other.id, seq: 0, link: new Uint8Array(32) }],
  });
  const rendezvousId = bytes(5, 1);
  const objectId = bytes(32, 3);
  return [
    { case: "push", value: pushOf(device.run(1)) },
    { case: "push", value: pushOf(device.run(3, { ttlS: 60, deletes: [bytes(16, 4)] })) },
    { case: "push", value: pushOf(device.run(1, { epoch: 2 }), true) },
    { case: "pull", value: { after: 0n, windowBytes: 1_000_000 } },
    { case: "pull", value: { after: 1n, until: 3n, windowBytes: 1 } },
    { case: "pullMore", value: { windowBytes: 500 } },
    {
      case: "ack",
      value: {
        applied: 2n,
        witness: { counter: 1n, epoch: 1n, sealed: bytes(300, 1), signature: bytes(64, 1) },
      },
    },
    { case: "ack", value: { applied: 1n } },
    { case: "presence", value: { state: 1 } },
    { case: "changeMembership", value: founded.change },
    { case: "changeMembership", value: rotated.change },
    { case: "changeMembership", value: removed.change },
    { case: "pullControl", value: { after: 0n } },
    { case: "openInvite", value: { rendezvousId } },
    { case: "joinInvite", value: { rendezvousId } },
    { case: "inviteMessage", value: { rendezvousId, number: 1, data: bytes(90, 2) } },
    { case: "closeInvite", value: { rendezvousId, reason: 1 } },
    { case: "putObject", value: { objectId, sizeBytes: 100n, data: bytes(100, 3) } },
    { case: "statObject", value: { objectId } },
    { case: "getObject", value: { objectId } },
    { case: "dropObject", value: { objectId } },
    { case: "getSnapshot", value: { unconfirmed: true } },
    { case: "confirmSnapshot", value: { snapshotId: bytes(32, 6), signature: bytes(64, 7) } },
    { case: "getWakeUp", value: {} },
    {
      case: "setWakeUp",
      value: {
        endpoint: "https://push.example/a",
        p256dh: Uint8Array.of(4, ...bytes(64, 8)),
        auth: bytes(16, 9),
      },
    },
  ];
}

/** The same, size-delimited, with ids from 1. */
export function requestEnvelopes(): Uint8Array[] {
  return requestBodies().map((body, i) => encodeEnvelope(i + 1, body));
}
