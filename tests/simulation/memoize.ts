/**
 * Puts `memoized-x-wing.ts` in the place of the library the client computes X-Wing with, in this
 * process. Most of a simulated device's work would be that.
 */
import { register } from "node:module";

const memoized = new URL("memoized-x-wing.ts", import.meta.url).href;
const hooks = `
export async function resolve(specifier, context, next) {
  const hybrid = specifier === "@noble/post-quantum/hybrid.js";
  if (hybrid && context.parentURL?.split("?")[0].endsWith("/client/seal/primitives.ts")) {
    return await next(${JSON.stringify(memoized)}, context);
  }
  return await next(specifier, context);
}
`;

/** Called before anything of the client is imported. */
export function memoizeXWing(): void {
  register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}
