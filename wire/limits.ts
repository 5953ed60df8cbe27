/**
 * Every bound of the wire, in one place, unit last. What a relay's operator may
 * change stands in `proto/syncrelay/config/v1`; what stands here is fixed by the
 * protocol or is a default both ends share.
 */

/** PROTOCOL 2: one Noise message, in bytes (Noise specification, section 3). */
export const noiseMessageBytesMax = 65_535;
/** The authentication tag that each Noise transport message ends with, in bytes. */
export const noiseTagBytes = 16;
/** The plaintext one Noise transport message carries at most, in bytes. */
export const noisePlaintextBytesMax = noiseMessageBytesMax - noiseTagBytes;
/** One message before authentication, in bytes. */
export const handshakeBytesMax = 4_096;
/** `Hello`, encoded, in bytes. */
export const helloBytesMax = 2_048;
/** The whole handshake with `Hello`, reads included, in milliseconds. */
export const handshakeMsMax = 10_000;
/**
 * The transport counts nonces in 32 bits; a connection ends, and is made anew,
 * when either direction has come this far. Far below 2^32, where the counter
 * would begin again and give two messages one nonce.
 */
export const noiseMessagesMax = 2 ** 31;

/** The most a relay may set for one blob, in bytes: header, signature and body. */
export const blobBytesCeiling = 16 * 1024 * 1024;
/** One blob, by default, in bytes. */
export const blobBytesDefault = 1024 * 1024;
/** What an envelope may carry beside one blob, in bytes. */
export const envelopeOverheadBytes = 64 * 1024;
/** The length before an envelope, in bytes: four hold 2^28, more than any limit allows. */
export const sizePrefixBytesMax = 4;
/**
 * Messages and list items that all envelopes of one record hold together, the
 * envelopes among them. Two bytes can ask for an item that takes 800 to decode, so
 * a bound in bytes is not enough.
 */
export const recordItemsMax = 32_768;
/** The same of one message that stands in another as bytes; a snapshot's claims have the most. */
export const partItemsMax = 16_384;
/** Envelopes a sender puts into one record: so many small ones stay below `recordItemsMax`. */
export const recordEnvelopesMax = 4_096;
/** Blobs in one push. */
export const batchBlobsMax = 1_000;
/** Bytes of blobs a client puts into one push, in bytes; one blob always fits. */
export const batchBytesMax = 1024 * 1024;
/** Blobs in one `Blobs` or `Deliver`, and in one window of verification. */
export const windowBlobsMax = 2_000;
/** Bytes of one window of verification. */
export const windowBytesMax = 8 * 1024 * 1024;
/** One `Blobs`, in bytes; one blob always fits. */
export const pageBytesMax = 1024 * 1024;
/** What a pull may have under way unasked, in bytes: the most a window may be opened. */
export const pullWindowBytesMax = 16 * 1024 * 1024;

/** A blob header, encoded, in bytes. */
export const headerBytesMax = 8_192;
/** Blobs named by one header under `deletes`. */
export const headerDeletesMax = 256;
/** A control blob, encoded, in bytes: a full group's wraps take 315,392 of them. */
export const controlBytesMax = 393_216;
/** All control blobs of a group, in bytes: they are never trimmed. Who only removes may go to twice as many. */
export const controlChainBytesMax = 64 * 1024 * 1024;
/** Members of a group, recovery phrases included. */
export const membersMax = 256;
/** A sealed witness, in bytes: a full group's positions take up to 20,480 of them. */
export const witnessBytesMax = 32_768;
/** Causal witnesses in one entry. */
export const witnessedMax = 256;
/** A device's name, in bytes of UTF-8. */
export const nameBytesMax = 64;
/** An entry's content type, in bytes of UTF-8. */
export const contentTypeBytesMax = 128;

/** A pairing message, in bytes. */
export const inviteMessageBytesMax = 4_096;
/** Pairing messages each way. */
export const inviteMessagesMax = 8;
/** A pairing mailbox's life, in milliseconds. */
export const inviteMs = 600_000;
/** Failed attempts that burn an invite. */
export const inviteFailuresMax = 3;

/** One range of an object, in bytes. */
export const objectRangeBytesMax = 1024 * 1024;
/** What ranges of an object begin at multiples of, in bytes. */
export const objectAlignmentBytes = 65_536;
/** One object, in bytes: a content of 1 GiB takes 262,144 more once it is sealed. */
export const objectBytesDefault = 1088 * 1024 * 1024;
/** Where a push service takes messages for a device: a URL, in bytes. */
export const wakeUpEndpointBytesMax = 1_024;
/** A key of P-256 at a push service: an uncompressed point, in bytes (RFC 8291, RFC 8292). */
export const wakeUpKeyBytes = 65;
/** The authentication secret of a subscription, in bytes (RFC 8291). */
export const wakeUpAuthBytes = 16;
/** Parts of a snapshot. */
export const snapshotPartsMax = 4_096;
/** A snapshot manifest, encoded, in bytes. */
export const manifestBytesMax = 524_288;

/** Between two pings of a quiet connection, in milliseconds; tunnels cut at 60 to 100 s. */
export const pingIntervalMs = 30_000;

/** The envelope limit that follows from a blob limit, in bytes. */
export function envelopeBytesMax(blobBytesMax: number): number {
  return Math.max(blobBytesMax, pageBytesMax) + envelopeOverheadBytes;
}

/**
 * The most one WebSocket message may be, in bytes: a record holds a run of
 * envelopes, and a sender closes it once it holds one envelope's worth.
 */
export function recordBytesMax(blobBytesMax: number): number {
  const plaintext = 2 * (sizePrefixBytesMax + envelopeBytesMax(blobBytesMax));
  return plaintext + noiseTagBytes * Math.ceil(plaintext / noisePlaintextBytesMax);
}
