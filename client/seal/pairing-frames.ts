/**
 * What both sides of a pairing need: the handshake they share, and frames as
 * bytes. Every failure here is what a peer sent, and becomes one `SyncError`.
 */
import { create, type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";
import type { Device } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { PairingFrameSchema, PairingMeans } from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { Handshake, type Transport } from "../../wire/channel.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { inviteMessageBytesMax } from "../../wire/limits.ts";
import { parseRelayAddress, RelayAddressError } from "../../wire/relay-address.ts";
import { decodeMessage } from "./checks.ts";
import type { DeviceKeys } from "./keys.ts";
import { pairingLinkLabel, pairingPrologueLabel } from "./labels.ts";
import { deviceOfRoster, rosterDeviceOf } from "./membership.ts";
import { deriveKey, type Random } from "./primitives.ts";

/** A Noise message in a frame at most. */
const noiseBytesMax = 3_968;

/** What either side starts from. */
export interface PairingOptions {
  /** The mailbox, 5 bytes. */
  readonly rendezvousId: Uint8Array;
  readonly relayKey: Uint8Array;
  readonly keys: DeviceKeys;
  readonly random: Random;
  /** The secret of the handshake's ephemeral key, for vectors alone. */
  readonly ephemeralSecret?: Uint8Array;
}

/** The psk of a link: HKDF-SHA-256 (RFC 5869) of its secret. */
export function pskOfLink(secret: Uint8Array): Uint8Array {
  if (secret.byteLength !== 32) throw new RangeError("a link's secret has 32 bytes");
  return deriveKey(secret, pairingLinkLabel);
}

/** The prologue: label, mailbox, relay key (Noise specification, section 6). */
function pairingPrologue(options: PairingOptions): Uint8Array {
  return concatBytes(pairingPrologueLabel, options.rendezvousId, options.relayKey);
}

/** The handshake of a pairing: Noise XXpsk0. */
export function handshakeOf(
  role: "initiator" | "responder",
  psk: Uint8Array,
  options: PairingOptions,
): Handshake {
  return new Handshake({
    role,
    keyPair: options.keys.noise,
    prologue: pairingPrologue(options),
    psk,
    ...(options.ephemeralSecret === undefined ? {} : { ephemeralSecret: options.ephemeralSecret }),
  });
}

/** Reads a frame. Throws ENVELOPE_INVALID. */
export function openFrame(bytes: Uint8Array): { means: PairingMeans; noise: Uint8Array } {
  const { means, noise } = decodeMessage(
    PairingFrameSchema,
    bytes,
    inviteMessageBytesMax,
    ErrorCode.ENVELOPE_INVALID,
  );
  if (noise.byteLength > noiseBytesMax) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
  return { means, noise };
}

/** A frame around a Noise message. */
export function frameOf(
  noise: Uint8Array,
  means: PairingMeans = PairingMeans.UNSPECIFIED,
): Uint8Array {
  return toBinary(PairingFrameSchema, create(PairingFrameSchema, { means, noise }));
}

/** A frame around a message, encrypted. */
export function sealFrame<Desc extends DescMessage>(
  transport: Transport,
  schema: Desc,
  message: MessageShape<Desc>,
): Uint8Array {
  return frameOf(transport.encrypt(toBinary(schema, message)));
}

/** Decrypts and decodes. A message that does not open ends the pairing as a failed handshake does. */
export function decryptFrame<Desc extends DescMessage>(
  transport: Transport,
  schema: Desc,
  noise: Uint8Array,
): MessageShape<Desc> {
  let plaintext: Uint8Array;
  try {
    plaintext = transport.decrypt(noise);
  } catch (cause) {
    throw new SyncError(ErrorCode.HANDSHAKE_FAILED, { cause });
  }
  return decodeMessage(schema, plaintext, inviteMessageBytesMax, ErrorCode.ENVELOPE_INVALID);
}

/** A device as the other side described it, checked. Throws ENVELOPE_INVALID. */
export function checkedDevice(
  described: Pick<Device, "deviceId" | "signingKey" | "sealingKey" | "name"> | undefined,
): Device {
  try {
    return deviceOfRoster(
      rosterDeviceOf(
        described === undefined ? undefined : { ...described, role: MemberRole.DEVICE },
      ),
    );
  } catch (cause) {
    if (!(cause instanceof SyncError)) throw cause;
    throw new SyncError(ErrorCode.ENVELOPE_INVALID, { cause });
  }
}

/** The relay's key in an address. Throws ENVELOPE_INVALID where it is none. */
export function relayKeyOf(address: string): Uint8Array {
  try {
    return parseRelayAddress(address).relayKey;
  } catch (cause) {
    if (!(cause instanceof RelayAddressError)) throw cause;
    throw new SyncError(ErrorCode.ENVELOPE_INVALID, { cause });
  }
}
