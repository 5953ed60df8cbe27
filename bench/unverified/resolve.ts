/** Where a module of the client is replaced by one that leaves its checks out. */
import type { ResolveHook } from "node:module";

const replacements = new Map(
  [
    ["client/seal/history.js", "history.js"],
    ["client/seal/blob.js", "blob.js"],
    ["client/claims.js", "claims.js"],
    ["client/link-memory.js", "link-memory.js"],
  ].map(([module = "", by = ""]) => [
    new URL(`../../${module}`, import.meta.url).href,
    new URL(by, import.meta.url).href,
  ]),
);
const here = new Set(replacements.values());

export const resolve: ResolveHook = async (specifier, context, next) => {
  const resolved = await next(specifier, context);
  // A replacement goes on with what it replaces.
  if (context.parentURL !== undefined && here.has(context.parentURL)) return resolved;
  const url = replacements.get(resolved.url);
  return url === undefined ? resolved : { ...resolved, url };
};
