/**
 * BLAKE2b-256 in WebAssembly, for pages: there it takes a tenth of the time of JavaScript. It is loaded
 * beside everything else, and until it is there, or where a page's policy forbids it, JavaScript does.
 */
import type { Blake2bExports } from "blake2b-wasm/blake2b.js";

const hashBytes = 32;
/** Where in its memory things lie: what it is set up by, one state of 216 bytes, and what is hashed. */
const parametersBytes = 64;
const stateAt = parametersBytes;
const resultAt = stateAt + 128;
const inputAt = 320;
const inputBytesMax = 32_768;

/** Hashes the parts, one after another; undefined until it is loaded. */
export let wasmBlake2b256: ((parts: readonly Uint8Array[]) => Uint8Array) | undefined;

/** Loads it. Resolves with whether it is there. */
export async function loadWasmHash(): Promise<boolean> {
  try {
    const { default: load } = await import("blake2b-wasm/blake2b.js");
    wasmBlake2b256 = hashIn(await load());
    return true;
  } catch {
    // No WebAssembly here, or none that the page's policy allows.
    return false;
  }
}

function hashIn(wasm: Blake2bExports): (parts: readonly Uint8Array[]) => Uint8Array {
  const missing = inputAt + inputBytesMax - wasm.memory.buffer.byteLength;
  if (missing > 0) wasm.memory.grow(Math.ceil(missing / 65_536));
  const memory = new Uint8Array(wasm.memory.buffer);
  return (parts) => {
    // RFC 7693, section 2.8: the length of the hash, no key, fanout and depth of one.
    memory.fill(0, 0, parametersBytes);
    memory[0] = hashBytes;
    memory[2] = 1;
    memory[3] = 1;
    wasm.blake2b_init(stateAt, hashBytes);
    for (const part of parts) {
      for (let from = 0; from < part.byteLength; from += inputBytesMax) {
        const piece = part.subarray(from, from + inputBytesMax);
        memory.set(piece, inputAt);
        wasm.blake2b_update(stateAt, inputAt, inputAt + piece.byteLength);
      }
    }
    wasm.blake2b_final(stateAt);
    return memory.slice(resultAt, resultAt + hashBytes);
  };
}
