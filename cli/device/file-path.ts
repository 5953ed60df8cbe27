/**
 * The path a pushed file carries: which ones a receiver accepts. Another device
 * wrote it, so it is believed only where it stays inside the receiver's folder.
 */

/** A whole path, in bytes of UTF-8. */
export const pathBytesMax = 1024;
/** One name of a path, in bytes of UTF-8: what common file systems hold. */
export const pathNameBytesMax = 255;

/** What Windows reads as something other than a name: separators, drives, streams, wildcards. */
const windowsSpecial = /[\\:*?"<>|]/;

/** Why a path is refused; undefined where it is fine. */
export function pathProblem(
  path: string,
  platform: NodeJS.Platform = process.platform,
): string | undefined {
  if (path === "") return "the path is empty";
  if (Buffer.byteLength(path) > pathBytesMax)
    return `the path is longer than ${pathBytesMax} bytes`;
  if (path.includes("\0")) return "the path holds a zero byte";
  if (path.startsWith("/")) return "the path is absolute";
  for (const name of path.split("/")) {
    if (name === "") return "the path holds an empty name";
    if (name === "." || name === "..") return "the path leads out of its folder";
    if (Buffer.byteLength(name) > pathNameBytesMax) {
      return `a name is longer than ${pathNameBytesMax} bytes`;
    }
    if (platform === "win32" && windowsSpecial.test(name))
      return "a name means something else here";
  }
  return undefined;
}
