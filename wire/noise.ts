/** The handshake's library. A page gets `noise-page.ts` in its place: package.json says so to bundlers. */
export { default as Noise } from "noise-handshake";
export { default as curve } from "noise-handshake/dh.js";
