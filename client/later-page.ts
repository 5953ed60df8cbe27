/** What is needed seldom, loaded when it is: a fifth of what a page would load at first. */
import type { Rare } from "./later.ts";

export function later(): Promise<Rare> {
  return import("./rare.ts");
}
