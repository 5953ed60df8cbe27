/**
 * Every label that separates one use of a hash, a signature or a key from all
 * others. A label is used for one thing only; two uses never share one, so that
 * nothing made for one purpose can be passed off as another.
 *
 * Two more stand in `wire/ids.ts`, where both ends derive them: the link of a
 * blob and the fingerprint of a key. Three hashes have none, as the schema
 * states them: the entry hash, the control head and the pairing commitment.
 * Each is signed, compared or sent only in a place of its own.
 */
import { utf8 } from "../../wire/bytes.ts";

/** HKDF of the device seed: the X25519 key, static key of every Noise handshake. */
export const deviceNoiseLabel: Uint8Array = utf8("syncrelay/1 device noise key");
/** HKDF of the device seed: the seed of the Ed25519 signing key. */
export const deviceSigningLabel: Uint8Array = utf8("syncrelay/1 device signing key");
/** HKDF of the device seed: the seed of the X-Wing key that epoch secrets are sealed to. */
export const deviceSealingLabel: Uint8Array = utf8("syncrelay/1 device sealing key");

/** Signed before the link of a blob. */
export const blobSignatureLabel: Uint8Array = utf8("syncrelay/1 blob signature");
/** HKDF of an epoch secret: the key of blob bodies. */
export const bodyKeyLabel: Uint8Array = utf8("syncrelay/1 body key");

/** HKDF of an epoch secret: the key of control statements. */
export const statementKeyLabel: Uint8Array = utf8("syncrelay/1 statement key");
/** HKDF of an epoch secret: the key check value, public. */
export const keyCheckLabel: Uint8Array = utf8("syncrelay/1 key check");
/** HKDF of an epoch secret: the key under which the secret of the epoch before is sealed. */
export const previousSecretLabel: Uint8Array = utf8("syncrelay/1 previous secret key");
/** HKDF of an X-Wing shared secret: the key of one wrap. */
export const wrapKeyLabel: Uint8Array = utf8("syncrelay/1 wrap key");
/** Signed first in a control blob. */
export const controlSignatureLabel: Uint8Array = utf8("syncrelay/1 control signature");
/** Hash of the clear part of a control blob, as it is signed. */
export const controlClearLabel: Uint8Array = utf8("syncrelay/1 control clear");
/** Hash of the statement of a control blob, as it is signed. */
export const controlStatementLabel: Uint8Array = utf8("syncrelay/1 control statement");

/** HKDF of an epoch secret: the key of sealed witnesses. */
export const witnessKeyLabel: Uint8Array = utf8("syncrelay/1 witness key");
/** Signed first in a witness. */
export const witnessSignatureLabel: Uint8Array = utf8("syncrelay/1 witness signature");

/** HKDF of an object's key: the key of its chunks. */
export const objectStreamLabel: Uint8Array = utf8("syncrelay/1 object stream key");

/** HKDF of an epoch secret: the key of a snapshot's claims. */
export const snapshotKeyLabel: Uint8Array = utf8("syncrelay/1 snapshot key");
/** Signed first by the author of a snapshot. */
export const snapshotSignatureLabel: Uint8Array = utf8("syncrelay/1 snapshot signature");
/** Signed first by a device that confirms one. */
export const snapshotConfirmationLabel: Uint8Array = utf8("syncrelay/1 snapshot confirmation");

/** First in the prologue of the pairing handshake. */
export const pairingPrologueLabel: Uint8Array = utf8("syncrelay/1 pairing prologue");
/** HKDF of a link's secret: the psk of the pairing handshake. */
export const pairingLinkLabel: Uint8Array = utf8("syncrelay/1 pairing link psk");
/** Hash that salts the stretching of a short code. */
export const pairingCodeSaltLabel: Uint8Array = utf8("syncrelay/1 pairing code salt");
/** HKDF of the handshake hash: the comparison string. */
export const comparisonLabel: Uint8Array = utf8("syncrelay/1 pairing comparison");

/** HKDF of a recovery phrase's seed: the key of its recovery record. */
export const recoveryRecordLabel: Uint8Array = utf8("syncrelay/1 recovery record key");
/** Hash of a device's three public keys, as people compare it in full. */
export const deviceFingerprintLabel: Uint8Array = utf8("syncrelay/1 device fingerprint");
