/**
 * The side API's bearer tokens: one a scope, in files of mode 0600 in the data
 * folder, or given by the configuration. A file that was replaced holds within a
 * second: whoever can write it may rotate a token without one.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { toBase64url } from "../../wire/bytes.ts";
import { readText, writePrivateFile } from "../identity.ts";

/** `read` may look; `admin` may change. */
export type Scope = "read" | "admin";

export const scopes: readonly Scope[] = ["read", "admin"];

/** The name of a scope's file in the data folder. */
export function tokenFile(folder: string, scope: Scope): string {
  return join(folder, `${scope}-token`);
}

/** How long a file is believed before it is looked at again, in milliseconds. */
const lookMs = 1_000;
const tokenBytes = 32;

interface KnownToken {
  /** SHA-256: so that what is compared has one length, and the token lies nowhere in memory. */
  hash: Buffer | undefined;
  /** Of a file: which version of it was read. */
  version: string;
}

export interface TokensOptions {
  readonly folder: string;
  /** Tokens that the configuration gives; empty: none. */
  readonly given: Readonly<Record<Scope, string>>;
  readonly random: (length: number) => Uint8Array;
  readonly monotonicMs: () => number;
}

export class Tokens {
  readonly #options: TokensOptions;
  readonly #known = new Map<Scope, KnownToken>();
  #lookedMs = -Infinity;

  private constructor(options: TokensOptions) {
    this.#options = options;
  }

  /** Reads the tokens, and draws those that are missing. */
  static async open(options: TokensOptions): Promise<Tokens> {
    const { folder, given, random } = options;
    const tokens = new Tokens(options);
    for (const scope of scopes) {
      if (given[scope] === "" && (await readToken(folder, scope)) === undefined) {
        await rotateToken(folder, scope, random);
      }
    }
    await tokens.#look();
    return tokens;
  }

  /** The scope that a token has; undefined where it has none. Takes the same time for every wrong one. */
  async scopeOf(token: string): Promise<Scope | undefined> {
    await this.#look();
    const hash = hashOf(token);
    let found: Scope | undefined;
    for (const scope of scopes) {
      const known = this.#known.get(scope)?.hash;
      if (known !== undefined && timingSafeEqual(known, hash)) found = scope;
    }
    return found;
  }

  async #look(): Promise<void> {
    const nowMs = this.#options.monotonicMs();
    if (nowMs - this.#lookedMs < lookMs) return;
    this.#lookedMs = nowMs;
    for (const scope of scopes) await this.#lookAt(scope);
  }

  async #lookAt(scope: Scope): Promise<void> {
    const { folder, given } = this.#options;
    if (given[scope] !== "") {
      this.#known.set(scope, { hash: hashOf(given[scope]), version: "given" });
      return;
    }
    const version = await fileVersion(tokenFile(folder, scope));
    if (this.#known.get(scope)?.version === version) return;
    const token = await readToken(folder, scope);
    this.#known.set(scope, { hash: token === undefined ? undefined : hashOf(token), version });
  }
}

/** A scope's token from its file; undefined where there is none, or nothing fit to be one. */
export async function readToken(folder: string, scope: Scope): Promise<string | undefined> {
  const text = (await readText(tokenFile(folder, scope)))?.trim();
  return text !== undefined && /^[A-Za-z0-9._~-]{32,128}$/.test(text) ? text : undefined;
}

/** Draws a new token for a scope; the old one holds for a second more at most. */
export async function rotateToken(
  folder: string,
  scope: Scope,
  random: (length: number) => Uint8Array,
): Promise<string> {
  const token = toBase64url(random(tokenBytes));
  await writePrivateFile(folder, `${scope}-token`, `${token}\n`);
  return token;
}

function hashOf(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}

async function fileVersion(path: string): Promise<string> {
  try {
    const { ino, mtimeMs, size } = await stat(path);
    return `${ino} ${mtimeMs} ${size}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "missing";
    throw error;
  }
}
