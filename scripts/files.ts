/** What the scripts need to know about folders. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** The files below `folder`, relative to it, with "/", in order. */
export function listFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .map((path) => path.replaceAll("\\", "/"))
    .toSorted();
}

/** The files that only one of two folders has, or that differ. */
export function compareFolders(left: string, right: string): string[] {
  const inLeft = new Set(listFiles(left));
  const inRight = new Set(listFiles(right));
  return [...new Set([...inLeft, ...inRight])]
    .filter(
      (path) =>
        !inLeft.has(path) ||
        !inRight.has(path) ||
        !readFileSync(join(left, path)).equals(readFileSync(join(right, path))),
    )
    .toSorted();
}
