/**
 * The handshake's library. A page gets `noise-page.ts` in its place: the `package.json` of this folder says so to
 * bundlers, and the package's own of what is built.
 */
export { default as Noise } from "noise-handshake";
export { default as curve } from "noise-handshake/dh.js";
