/** What is needed seldom. A page gets `later-page.ts` in its place: package.json says so to bundlers. */
import * as rare from "./rare.ts";

export type Rare = typeof rare;

/** At hand. */
export function later(): Promise<Rare> {
  return Promise.resolve(rare);
}
