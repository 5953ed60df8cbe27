/**
 * Calls over a line. What a call takes and gives may hold functions, promises, iterables, signals and
 * errors, at any depth: each stays where it is, and the other end gets one that asks for it.
 */
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import { PhraseError } from "../../seal/phrase-error.ts";
import { StateStoreError, type StateStoreProblem } from "../../state-store.ts";
import { QueueFullError, UsageError } from "../../usage-error.ts";
import type { Line } from "./line.ts";

/** What can be called. */
export type Called = (...args: readonly never[]) => unknown;
/** What one end offers the other, by name. */
export type Offers = Readonly<Record<string, Called>>;

type Message =
  | {
      readonly t: "call";
      readonly id: number;
      readonly to: string | number;
      readonly args: unknown;
    }
  | { readonly t: "tell"; readonly to: string | number; readonly args: unknown }
  | { readonly t: "answer"; readonly id: number; readonly value: unknown }
  | { readonly t: "failed"; readonly id: number; readonly error: unknown }
  | { readonly t: "free"; readonly ids: readonly number[] };

/** A value that stays where it is. */
type Remote =
  | { readonly kind: "function"; readonly id: number }
  | { readonly kind: "iterable"; readonly id: number }
  | { readonly kind: "promise"; readonly id: number }
  | { readonly kind: "signal"; readonly id: number; readonly aborted: boolean }
  | { readonly kind: "error"; readonly told: ToldError }
  | { readonly kind: "plain"; readonly value: unknown };

const mark = "$remote";

/** Marks what holds nothing that stays where it is: it crosses as it is, without being looked through. */
export class Plain<T> {
  readonly value: T;

  constructor(value: T) {
    this.value = value;
  }
}

/** The other end is gone: what was asked of it may have been done, or not. */
export class LineLost extends Error {
  override readonly name = "LineLost";
}

export class Peer {
  readonly #line: Line;
  readonly #offers: Offers;
  readonly #waiting = new Map<
    number,
    {
      readonly resolve: (value: unknown) => void;
      readonly reject: (error: unknown) => void;
      /** What went with the call and stayed here. */
      readonly kept: readonly number[];
    }
  >();
  readonly #functions = new Map<number, (...args: unknown[]) => unknown>();
  #nextId = 1;
  #lost = false;

  constructor(line: Line, offers: Offers) {
    this.#line = line;
    this.#offers = offers;
    line.onMessage = (message) => this.#take(message as Message);
  }

  /** Asks the other end. Rejects with what it threw, or `LineLost`. */
  call(to: string | number, ...args: unknown[]): Promise<unknown> {
    if (this.#lost) return Promise.reject(new LineLost());
    const id = this.#nextId;
    this.#nextId += 1;
    const kept: number[] = [];
    const encoded = this.#encode(args, kept);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, kept });
      this.#line.send({ t: "call", id, to, args: encoded } satisfies Message);
    });
  }

  /** Tells the other end, and hears nothing of it. */
  tell(to: string | number, ...args: unknown[]): void {
    if (!this.#lost) this.#line.send({ t: "tell", to, args: this.#encode(args) } satisfies Message);
  }

  /** The other end is gone, or is to be left alone. */
  close(): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#line.close();
    for (const { reject } of this.#waiting.values()) reject(new LineLost());
    this.#waiting.clear();
    this.#functions.clear();
  }

  #take(message: Message): void {
    if (this.#lost) return;
    switch (message.t) {
      case "call": {
        const { id } = message;
        this.#run(message.to, message.args).then(
          (value) => this.#answer({ t: "answer", id, value: this.#encode(value) }),
          (error: unknown) => this.#answer({ t: "failed", id, error: this.#encode(error) }),
        );
        return;
      }
      case "tell":
        this.#run(message.to, message.args).catch((error: unknown) => {
          // A defect: it surfaces as one of this tab.
          setTimeout(() => {
            throw error;
          }, 0);
        });
        return;
      case "answer":
      case "failed": {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        // What went with the call is of no use once it has ended, and left nothing behind that goes on.
        if (message.t === "failed" || !holdsRemote(message.value)) {
          for (const each of waiting?.kept ?? []) this.#functions.delete(each);
        }
        if (message.t === "answer") waiting?.resolve(this.#decode(message.value));
        else waiting?.reject(this.#decode(message.error));
        return;
      }
      case "free":
        for (const id of message.ids) this.#functions.delete(id);
        return;
    }
  }

  #answer(message: Message): void {
    if (!this.#lost) this.#line.send(message);
  }

  async #run(to: string | number, args: unknown): Promise<unknown> {
    const called =
      typeof to === "number"
        ? this.#functions.get(to)
        : (this.#offers[to] as ((...args: unknown[]) => unknown) | undefined);
    if (called === undefined) throw new UsageError("what was called is there no longer");
    return await called(...(this.#decode(args) as unknown[]));
  }

  #keep(called: (...args: unknown[]) => unknown, kept?: number[]): number {
    const id = this.#nextId;
    this.#nextId += 1;
    this.#functions.set(id, called);
    kept?.push(id);
    return id;
  }

  #encode(value: unknown, kept?: number[]): unknown {
    if (typeof value === "function") {
      const called = value as (...args: unknown[]) => unknown;
      return { [mark]: { kind: "function", id: this.#keep(called, kept) } satisfies Remote };
    }
    if (typeof value !== "object" || value === null) return value;
    if (value instanceof Uint8Array) {
      // A view would be copied with all that it is a view of.
      return value.byteLength === value.buffer.byteLength ? value : Uint8Array.from(value);
    }
    if (value instanceof Plain) {
      return { [mark]: { kind: "plain", value: value.value } satisfies Remote };
    }
    if (value instanceof Error)
      return { [mark]: { kind: "error", told: toldError(value, (each) => this.#encode(each)) } };
    if (Array.isArray(value)) return value.map((each) => this.#encode(each, kept));
    if (value instanceof Promise) return this.#encodePromise(value);
    if (typeof AbortSignal !== "undefined" && value instanceof AbortSignal) {
      return this.#encodeSignal(value, kept);
    }
    if (Symbol.asyncIterator in value || isPlainIterable(value)) {
      return this.#encodeIterable(value as AsyncIterable<unknown>, kept);
    }
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, this.#encode(each, kept)]),
    );
  }

  #encodePromise(promise: Promise<unknown>): unknown {
    const id = this.#keep(() => promise);
    promise.catch(() => undefined);
    return { [mark]: { kind: "promise", id } satisfies Remote };
  }

  #encodeSignal(signal: AbortSignal, kept?: number[]): unknown {
    const listening = new Set<() => void>();
    signal.addEventListener("abort", () => {
      for (const tell of listening) tell();
    });
    const id = this.#keep((tell) => {
      if (signal.aborted) (tell as () => void)();
      else listening.add(tell as () => void);
    }, kept);
    return { [mark]: { kind: "signal", id, aborted: signal.aborted } satisfies Remote };
  }

  #encodeIterable(iterable: AsyncIterable<unknown>, kept?: number[]): unknown {
    let iterator: AsyncIterator<unknown> | Iterator<unknown> | undefined;
    const id = this.#keep(async (end) => {
      iterator ??=
        Symbol.asyncIterator in iterable
          ? iterable[Symbol.asyncIterator]()
          : (iterable as Iterable<unknown>)[Symbol.iterator]();
      if (end === true) {
        this.#functions.delete(id);
        await iterator.return?.();
        return { done: true };
      }
      const { done, value } = await iterator.next();
      if (done === true) this.#functions.delete(id);
      return { done: done === true, value };
    }, kept);
    return { [mark]: { kind: "iterable", id } satisfies Remote };
  }

  #decode(value: unknown): unknown {
    if (typeof value !== "object" || value === null) return value;
    if (Array.isArray(value)) return value.map((each) => this.#decode(each));
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    if (mark in value) return this.#decodeRemote(value[mark] as Remote);
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, this.#decode(each)]),
    );
  }

  #decodeRemote(remote: Remote): unknown {
    switch (remote.kind) {
      case "function":
        return (...args: unknown[]) => this.call(remote.id, ...args);
      case "promise": {
        const promise = this.call(remote.id);
        this.#freeWith(promise, remote.id);
        // Listened to or not: who waits for it hears of it.
        promise.catch(() => undefined);
        return promise;
      }
      case "iterable":
        return this.#iterate(remote.id);
      case "signal": {
        const controller = new AbortController();
        if (remote.aborted) controller.abort();
        else this.call(remote.id, () => controller.abort()).catch(() => undefined);
        return controller.signal;
      }
      case "error":
        return errorOfTold(remote.told, (each) => this.#decode(each));
      case "plain":
        return remote.value;
    }
  }

  #freeWith(promise: Promise<unknown>, id: number): void {
    const free = (): void => {
      if (!this.#lost) this.#line.send({ t: "free", ids: [id] } satisfies Message);
    };
    promise.then(free, free);
  }

  async *#iterate(id: number): AsyncGenerator {
    let ended = false;
    try {
      for (;;) {
        const { done, value } = (await this.call(id, false)) as {
          readonly done: boolean;
          readonly value?: unknown;
        };
        if (done) {
          ended = true;
          return;
        }
        yield value;
      }
    } finally {
      if (!ended) await this.call(id, true).catch(() => undefined);
    }
  }
}

/** Whether something in an answer stays at the other end, and may call back. */
function holdsRemote(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(value)) return value.some(holdsRemote);
  if (Object.getPrototypeOf(value) !== Object.prototype) return false;
  if (mark in value) return (value[mark] as Remote).kind !== "plain";
  return Object.values(value).some(holdsRemote);
}

function isPlainIterable(value: object): boolean {
  return (
    Symbol.iterator in value &&
    !ArrayBuffer.isView(value) &&
    !(value instanceof Map) &&
    !(value instanceof Set)
  );
}

/** An error as it crosses a line. */
interface ToldError {
  readonly name: string;
  readonly message: string;
  readonly code?: number;
  readonly hint?: string;
  readonly retryAfterMs?: number;
  readonly detail?: unknown;
  readonly problem?: string;
  readonly unknown?: readonly number[];
  readonly queued?: number;
  readonly bound?: number;
}

function toldError(error: Error, encode: (value: unknown) => unknown): ToldError {
  const { name, message } = error;
  if (error instanceof SyncError) {
    const { code, hint, detail, retryAfterMs } = error;
    return {
      name,
      message,
      code,
      retryAfterMs,
      ...(hint === undefined ? {} : { hint }),
      ...(detail === undefined ? {} : { detail: encode(detail) }),
    };
  }
  if (error instanceof StateStoreError) return { name, message, problem: error.problem };
  if (error instanceof PhraseError) return { name, message, unknown: [...error.unknown] };
  if (error instanceof QueueFullError) {
    return { name, message, queued: error.queued, bound: error.bound };
  }
  return { name, message };
}

function errorOfTold(told: ToldError, decode: (value: unknown) => unknown): Error {
  const { name, message } = told;
  switch (name) {
    case "SyncError": {
      const { hint, retryAfterMs } = told;
      return new SyncError(told.code ?? ErrorCode.INTERNAL, {
        ...(hint === undefined ? {} : { hint }),
        ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
        ...(told.detail === undefined
          ? {}
          : { detail: decode(told.detail) as NonNullable<SyncError["detail"]> }),
      });
    }
    case "StateStoreError":
      return new StateStoreError(told.problem as StateStoreProblem, message);
    case "PhraseError":
      return new PhraseError(message, told.unknown);
    case "QueueFullError":
      return new QueueFullError(told.queued ?? 0, told.bound ?? 0);
    case "UsageError":
      return new UsageError(message);
    case "RangeError":
      return new RangeError(message);
    case "AbortError":
      return new DOMException(message, "AbortError");
    default: {
      const error = new Error(message);
      error.name = name;
      return error;
    }
  }
}
