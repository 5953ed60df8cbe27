/** The road both ends share. Pure: no I/O, clock, randomness or platform. */
export * from "./blob-header.ts";
export * from "./bytes.ts";
export * from "./channel.ts";
export * from "./envelope.ts";
export * from "./errors.ts";
export * from "./fields.ts";
export * from "./hash.ts";
export * from "./hot-encoders.ts";
export * from "./ids.ts";
export * from "./limits.ts";
export { decodePart } from "./message-shape.ts";
export * from "./protocol.ts";
export * from "./records.ts";
export * from "./relay-address.ts";
