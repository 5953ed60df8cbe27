/** What the figures were measured on. */
import { closeSync, fdatasyncSync, openSync, writeSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import sqlite3 from "sqlite3";
import { inDataFolder } from "./build.ts";
import { median } from "./measure.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly system: string;
  readonly node: string;
  readonly sqlite: string;
  /** Median time of an `fdatasync` after 4 KiB were written, on the disk the stores lie on. */
  readonly fdatasyncMs: number;
  /** Load over the last minute, before the first run. */
  readonly load: number;
}

/** Looks the machine over. */
export async function describeMachine(): Promise<Machine> {
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${process.platform} ${release()} ${process.arch}`,
    node: process.version,
    sqlite: sqlite3.VERSION,
    fdatasyncMs: await inDataFolder((folder) => Promise.resolve(measureSync(folder))),
    load: loadavg()[0] ?? 0,
  };
}

function measureSync(folder: string): number {
  const file = openSync(join(folder, "sync"), "w");
  const block = Buffer.alloc(4_096, 1);
  const times: number[] = [];
  for (let i = 0; i < 64; i++) {
    // Over and over in one place, as a write-ahead log is once it has grown.
    writeSync(file, block, 0, block.byteLength, 0);
    const startedMs = performance.now();
    fdatasyncSync(file);
    times.push(performance.now() - startedMs);
  }
  closeSync(file);
  return median(times);
}
