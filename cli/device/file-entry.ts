/** How a file becomes an entry's data, and an entry a file again. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileSchema } from "../../gen/syncrelay/cli/v1/file_pb.ts";

/** The content type of an entry that is a file. */
export const fileContentType = "application/vnd.syncrelay.file";

/** A file on its way between two devices. */
export interface SyncedFile {
  /** Below the receiver's folder, names joined by "/". */
  readonly path: string;
  readonly executable: boolean;
  /** 0: not known. */
  readonly modifiedMs: number;
  readonly data: Uint8Array;
}

/** The bytes that a file's path and fields add to its data, at most: to refuse before reading. */
export function fileOverheadBytes(path: string): number {
  return Buffer.byteLength(path) + 32;
}

/** A file as an entry's data. */
export function encodeFile(file: SyncedFile): Uint8Array {
  return toBinary(
    FileSchema,
    create(FileSchema, { ...file, modifiedMs: BigInt(Math.max(0, Math.trunc(file.modifiedMs))) }),
  );
}

/** Reads an entry's data as a file; undefined where it is none. */
export function decodeFile(data: Uint8Array): SyncedFile | undefined {
  try {
    const { path, executable, modifiedMs, data: content } = fromBinary(FileSchema, data);
    return { path, executable, modifiedMs: Number(modifiedMs), data: content };
  } catch {
    // Whatever the parser dislikes: another app may call anything a file. Its bytes are kept as they are.
    return undefined;
  }
}

const contentTypes: Readonly<Record<string, string>> = {
  css: "text/css",
  csv: "text/csv",
  html: "text/html",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  js: "text/javascript",
  json: "application/json",
  md: "text/markdown",
  pdf: "application/pdf",
  png: "image/png",
  svg: "image/svg+xml",
  txt: "text/plain",
  xml: "application/xml",
};

/** What a raw file's bytes are, by its name. */
export function contentTypeOf(name: string): string {
  const extension = /\.([^./\\]+)$/.exec(name)?.[1]?.toLowerCase() ?? "";
  return contentTypes[extension] ?? "application/octet-stream";
}
