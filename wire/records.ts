/**
 * Records: what one WebSocket message carries after the handshake. A run of
 * Noise transport messages, each of 65,535 bytes but the last; their plaintexts,
 * joined, are whole size-delimited envelopes.
 */

import type { Transport } from "./channel.ts";
import { ErrorCode, SyncError } from "./errors.ts";
import { noiseMessageBytesMax, noisePlaintextBytesMax, noiseTagBytes } from "./limits.ts";

/** Encrypts a plaintext, not empty, as one record. */
export function sealRecord(transport: Transport, plaintext: Uint8Array): Uint8Array {
  // Without a message there is nothing that authenticates the record.
  if (plaintext.byteLength === 0) throw new RangeError("a record is not empty");
  const messages = Math.ceil(plaintext.byteLength / noisePlaintextBytesMax);
  const record = new Uint8Array(plaintext.byteLength + messages * noiseTagBytes);
  let written = 0;
  for (let start = 0; start < plaintext.byteLength; start += noisePlaintextBytesMax) {
    const piece =
      messages === 1 ? plaintext : plaintext.subarray(start, start + noisePlaintextBytesMax);
    written += transport.encryptInto(piece, record, written);
  }
  return record;
}

/**
 * Decrypts a record of at most `bytesMax`. Throws TOO_LARGE or RECORD_INVALID;
 * both end the connection.
 */
export function openRecord(transport: Transport, record: Uint8Array, bytesMax: number): Uint8Array {
  const messages = messagesOf(record, bytesMax);
  const plaintext = new Uint8Array(record.byteLength - messages * noiseTagBytes);
  let written = 0;
  for (let start = 0; start < record.byteLength; start += noiseMessageBytesMax) {
    const message = messages === 1 ? record : record.subarray(start, start + noiseMessageBytesMax);
    written += transport.decryptInto(message, plaintext, written);
  }
  return plaintext;
}

/**
 * `openRecord` for who does not need the record again: one of a single message is decrypted where it lies,
 * and the plaintext is a part of its memory.
 */
export function openOwnRecord(
  transport: Transport,
  record: Uint8Array,
  bytesMax: number,
): Uint8Array {
  if (messagesOf(record, bytesMax) !== 1) return openRecord(transport, record, bytesMax);
  const plaintext = new Uint8Array(
    record.buffer,
    record.byteOffset,
    record.byteLength - noiseTagBytes,
  );
  transport.decryptInto(record, plaintext, 0);
  return plaintext;
}

/** How many messages a record is, by its length alone. Throws where it cannot be one. */
function messagesOf(record: Uint8Array, bytesMax: number): number {
  if (record.byteLength > bytesMax) throw new SyncError(ErrorCode.TOO_LARGE);
  const messages = Math.ceil(record.byteLength / noiseMessageBytesMax);
  const lastBytes = record.byteLength - (messages - 1) * noiseMessageBytesMax;
  // A message that carries nothing stands in no record: not as the only one, and
  // not behind a full one.
  if (messages === 0 || lastBytes <= noiseTagBytes) throw new SyncError(ErrorCode.RECORD_INVALID);
  return messages;
}
