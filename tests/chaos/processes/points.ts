/**
 * Loaded before a program, with `--import`: ends it by kill -9 at a chosen statement to its database,
 * or lets statements fail while a file is there. The program itself knows nothing of it.
 */
import { existsSync } from "node:fs";
import sqlite3 from "sqlite3";

/** Where a process ends. */
export interface KillPoint {
  /** A regular expression for the statement. */
  readonly match: string;
  /** It ends at the statement with this number, from 1. */
  readonly count: number;
  /** Inside: once the statement was handed to the thread that carries it out. */
  readonly at: "before" | "inside" | "after";
}

/** Statements that fail. */
export interface FailPoint {
  readonly match: string;
  /** As SQLite names it: `SQLITE_READONLY`. */
  readonly code: string;
  /** While this file is there. */
  readonly while: string;
}

type Call = (this: object, ...args: unknown[]) => unknown;

const killPoint = read<KillPoint>("CHAOS_KILL");
const failPoint = read<FailPoint>("CHAOS_FAIL");
let left = killPoint?.count ?? 0;

function read<Point>(name: string): Point | undefined {
  const text = process.env[name];
  return text === undefined ? undefined : (JSON.parse(text) as Point);
}

function end(): void {
  process.kill(process.pid, "SIGKILL");
}

function patch(
  owner: object,
  name: string,
  sqlOf: (self: object, args: unknown[]) => string,
): void {
  const calls = owner as Record<string, Call>;
  const original = calls[name] as Call;
  calls[name] = function (...args) {
    const sql = sqlOf(this, args);
    const done = args.at(-1);
    if (
      failPoint !== undefined &&
      typeof done === "function" &&
      new RegExp(failPoint.match).test(sql) &&
      existsSync(failPoint.while)
    ) {
      const error = Object.assign(new Error(`${failPoint.code}: as it was told to`), {
        code: failPoint.code,
      });
      setImmediate(() => (done as (error: Error) => void).call(this, error));
      return this;
    }
    if (killPoint === undefined || !new RegExp(killPoint.match).test(sql) || --left !== 0) {
      return original.apply(this, args);
    }
    if (killPoint.at === "before") end();
    if (killPoint.at === "after" && typeof done === "function") args[args.length - 1] = end;
    const result = original.apply(this, args);
    if (killPoint.at === "inside") end();
    return result;
  };
}

patch(sqlite3.Database.prototype, "exec", (_, args) => String(args[0]));
for (const name of ["run", "all"]) {
  patch(sqlite3.Statement.prototype, name, (self) => String((self as { sql?: unknown }).sql));
}
