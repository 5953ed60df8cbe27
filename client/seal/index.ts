/** The seal room: what only devices can do. The relay never imports it. */
export * from "./blob.ts";
export * from "./changes.ts";
export * from "./device-fingerprint.ts";
export * from "./header.ts";
export * from "./history.ts";
export * from "./keyring.ts";
export * from "./keys.ts";
export * from "./membership.ts";
export * from "./object.ts";
export * from "./pairing.ts";
export * from "./pairing-link.ts";
export * from "./phrase-error.ts";
export type { CodeCost, Random } from "./primitives.ts";
export * from "./recovery.ts";
export * from "./short-code.ts";
export * from "./snapshot.ts";
export * from "./witness.ts";
