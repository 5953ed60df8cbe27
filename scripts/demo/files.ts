/** The files the demo sends: those of this repository, and a few at the edges of what is allowed. */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { encodeFile, fileContentType } from "../../cli/device/file-entry.ts";
import { sealedBytesOf } from "../../client/seal/blob.ts";
import { blobBytesDefault } from "../../wire/limits.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The fewest real files the demo is worth anything with. */
const filesMin = 200;
/** A real file above this is left out: the largest one allowed is made on purpose. */
const realBytesMax = 512 * 1024;

/** What the demo sends, as paths below one folder. */
export interface DemoFiles {
  /** Every path, in the order to be sent. */
  readonly paths: string[];
  /** How many of them are real files of the repository. */
  readonly real: number;
  readonly bytes: number;
}

/**
 * Copies the repository's files to two folders, half to each, with the canary at
 * the end of every one; and adds an empty file, one of a byte, and the largest
 * that fits into one blob.
 */
export function prepareFiles(
  folders: readonly [string, string],
  canary: string,
): [DemoFiles, DemoFiles] {
  const names = realFiles();
  return [0, 1].map((side) => {
    const folder = folders[side] as string;
    const paths: string[] = [];
    let bytes = 0;
    const add = (path: string, data: Uint8Array, mode = 0o644): void => {
      const file = join(folder, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, data);
      chmodSync(file, mode);
      paths.push(path);
      bytes += data.byteLength;
    };
    for (const [at, name] of names.entries()) {
      if (at % 2 !== side) continue;
      const file = join(root, name);
      const mode = (statSync(file).mode & 0o100) === 0 ? 0o644 : 0o755;
      add(name, Buffer.concat([readFileSync(file), Buffer.from(`\n${canary}\n`)]), mode);
    }
    const real = paths.length;
    const edge = `edge-of-device-${side + 1}`;
    // In the middle, so that they are under way while things break.
    const middle = paths.splice(Math.floor(real / 2));
    add(`${edge}/empty`, new Uint8Array(0));
    add(`${edge}/one-byte`, Buffer.from("1"));
    add(`${edge}/largest`, largestFile(`${edge}/largest`, canary));
    paths.push(...middle);
    return { paths, real, bytes };
  }) as [DemoFiles, DemoFiles];
}

/**
 * The largest content that a file of this path may have, so that its blob just fits. An entry also
 * names the other senders whose entries its own device read meanwhile: in a group of two at most one.
 */
export function largestFileBytes(path: string, witnessed = 1): number {
  const blobBytesMax = blobBytesDefault;
  const fits = (bytes: number): boolean => {
    const data = encodeFile({
      path,
      executable: false,
      modifiedMs: Date.now(),
      data: new Uint8Array(bytes),
    });
    const sealed = sealedBytesOf(data.byteLength, {
      contentTypeBytes: Buffer.byteLength(fileContentType),
      witnessed,
    });
    return sealed <= blobBytesMax;
  };
  let low = 0;
  let high = blobBytesMax;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

function largestFile(path: string, canary: string): Buffer {
  const data = randomBytes(largestFileBytes(path));
  data.write(canary, Math.floor(data.byteLength / 2));
  return data;
}

/** Files of the repository, else of the folder it was unpacked to; with some of its dependencies' where they are few. */
function realFiles(): string[] {
  const own = tracked() ?? walk(root, "");
  const files = own.filter((name) => {
    const found = statSync(join(root, name), { throwIfNoEntry: false });
    return found?.isFile() === true && found.size <= realBytesMax;
  });
  if (files.length < filesMin) {
    for (const library of [
      "node_modules/ws",
      "node_modules/commander",
      "node_modules/@noble/curves",
    ]) {
      if (existsSync(join(root, library))) files.push(...walk(join(root, library), `${library}/`));
      if (files.length >= filesMin) break;
    }
  }
  return files.toSorted();
}

function tracked(): string[] | undefined {
  try {
    const list = execFileSync("git", ["ls-files", "-z", "--cached"], {
      cwd: root,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const names = list.split("\0").filter((name) => name !== "");
    return names.length === 0 ? undefined : names;
  } catch {
    // No git, or no repository: an archive was unpacked here.
    return undefined;
  }
}

const notSources = new Set(["node_modules", "dist", "data", "state", ".git"]);

function walk(folder: string, prefix: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) {
      return notSources.has(entry.name)
        ? []
        : walk(join(folder, entry.name), `${prefix}${entry.name}/`);
    }
    return entry.isFile() ? [`${prefix}${entry.name}`] : [];
  });
}
