/** A page has no libsodium: what stands in for it there, in JavaScript, is larger and slower than noble. */
import type { Sodium } from "./libsodium.ts";

export const sodium: Sodium | undefined = undefined;
