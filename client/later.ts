/**
 * What is needed seldom. A page gets `later-page.ts` in its place: the `package.json` of this folder says so to
 * bundlers, and the package's own of what is built.
 */
import * as rare from "./rare.ts";

export type Rare = typeof rare;

/** At hand. */
export function later(): Promise<Rare> {
  return Promise.resolve(rare);
}
