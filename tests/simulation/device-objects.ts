/**
 * What an app does with objects: puts them and pushes entries that refer to them, gets those that
 * entries refer to, and lets those go that no entry needs any more. What it has begun stands in its own
 * storage, and it goes on with it after a restart.
 */
import type { SyncClient } from "../../client/index.ts";
import { isMissing } from "../../client/object-transfer.ts";
import { concatBytes, fromBase64url, toBase64url } from "../../wire/bytes.ts";
import { bytesOf, type Content } from "./object-content.ts";
import type { ObjectTruth } from "./truth-objects.ts";
import type { World } from "./world.ts";

/** What entries refer to an object, and by which bytes. */
export interface Referred {
  readonly reference: string;
  readonly entries: readonly string[];
}

/** What an app keeps of objects in its storage. */
export interface StoredObjects {
  /** Put here, by name: no entry refers to them yet. */
  readonly puts: Map<string, Content>;
  /** Put here, by the objects' ids. */
  readonly own: Map<string, Content>;
  readonly live: Map<string, Referred>;
  /** An entry said that nobody needs them any more. */
  readonly dead: Set<string>;
  /** Those of them that this device has not let go yet. */
  readonly drops: Set<string>;
}

export function noObjects(): StoredObjects {
  return {
    puts: new Map(),
    own: new Map(),
    live: new Map(),
    dead: new Set(),
    drops: new Set(),
  };
}

export function copyOfObjects(stored: StoredObjects): StoredObjects {
  return {
    puts: new Map(stored.puts),
    own: new Map(stored.own),
    live: new Map(stored.live),
    dead: new Set(stored.dead),
    drops: new Set(stored.drops),
  };
}

/** What an entry says of an object, if it does. */
export function applyObject(stored: StoredObjects, text: string, blobId: string): void {
  const [word, objectId = "", reference = ""] = text.split(" ");
  if (word === "object") {
    const entries = stored.live.get(objectId)?.entries ?? [];
    if (stored.dead.has(objectId) || entries.includes(blobId)) return;
    stored.live.set(objectId, { reference, entries: [...entries, blobId] });
  } else if (word === "gone") {
    stored.live.delete(objectId);
    stored.dead.add(objectId);
    stored.drops.add(objectId);
  }
}

/** The device whose app it is. */
export interface ObjectsOf {
  readonly name: string;
  readonly deviceId: string;
  readonly client: SyncClient | undefined;
  readonly member: boolean;
  readonly app: { readonly objects: StoredObjects };
  /** Pushes an entry that says this. Resolves when it is queued; with false where it never is. */
  say(text: string, deletes: readonly string[]): Promise<boolean>;
  judgeAsked(what: string, client: SyncClient, error: unknown): void;
}

export class DeviceObjects {
  readonly #device: ObjectsOf;
  readonly #world: World;
  readonly #truth: ObjectTruth;
  /** Under way in this process, each with what stops it. */
  #putting = new Map<string, AbortController>();
  #dropping = new Set<string>();

  constructor(device: ObjectsOf, world: World, truth: ObjectTruth) {
    this.#device = device;
    this.#world = world;
    this.#truth = truth;
  }

  get #stored(): StoredObjects {
    return this.#device.app.objects;
  }

  /** Nothing of what it began is left to do. */
  get idle(): boolean {
    const { puts, drops } = this.#stored;
    return puts.size === 0 && drops.size === 0 && this.#putting.size === 0;
  }

  /** A new process goes on with what stands in the app's storage. */
  begin(): void {
    this.#putting = new Map();
    this.#dropping = new Set();
    this.goOn();
  }

  goOn(): void {
    const { puts, drops } = this.#stored;
    for (const content of puts.values()) this.#put(content);
    for (const objectId of drops) this.#drop(objectId);
  }

  put(content: Content): void {
    const { client, member, name } = this.#device;
    const stored = this.#stored;
    if (client === undefined || !member) return;
    this.#world.tell(`${name} puts ${content.name}, ${content.bytes} bytes`);
    stored.puts.set(content.name, content);
    this.#put(content);
  }

  /** Stops what it is putting; some day it goes on. */
  stop(): void {
    if (this.#device.client === undefined) return;
    for (const [name, controller] of this.#putting) {
      this.#world.tell(`${this.#device.name} stops putting ${name}`);
      controller.abort();
    }
  }

  /** Puts again what it put: a restored relay may lack it. */
  putAgain(): void {
    for (const [objectId, content] of this.#stored.own) {
      if (this.#stored.live.has(objectId)) this.#put(content);
    }
  }

  #put(content: Content): void {
    const { client, deviceId } = this.#device;
    const stored = this.#stored;
    const { name } = content;
    if (client === undefined || !this.#device.member || this.#putting.has(name)) return;
    const putting = this.#putting;
    const controller = new AbortController();
    putting.set(name, controller);
    this.#truth.put(deviceId, name);
    const { signal } = controller;
    client.putObject(bytesOf(content), { name, signal }).then(
      async ({ objectId, reference }) => {
        // The process is gone, and with it whoever asked.
        if (this.#device.client !== client) return;
        this.#truth.stored(deviceId, objectId, content);
        this.#world.tell(`${this.#device.name} has put ${name}`);
        const told = stored.own.has(objectId) || stored.dead.has(objectId);
        const text = `object ${objectId} ${toBase64url(reference)}`;
        if (told || (await this.#device.say(text, []))) {
          stored.own.set(objectId, content);
          stored.puts.delete(name);
        }
        putting.delete(name);
        // Somebody let it go meanwhile.
        if (stored.dead.has(objectId)) this.#dropAgain(objectId);
      },
      (error: unknown) => {
        putting.delete(name);
        if (!signal.aborted) this.#device.judgeAsked(`putObject ${name}`, client, error);
      },
    );
  }

  /** An entry tells all that nobody needs an object any more. */
  letGo(objectId: string): void {
    const { client, member, name } = this.#device;
    const stored = this.#stored;
    const referred = stored.live.get(objectId);
    if (client === undefined || !member || referred === undefined) return;
    this.#world.tell(`${name} lets ${this.#truth.contents.get(objectId)?.name} go`);
    void this.#device.say(`gone ${objectId}`, referred.entries);
  }

  /** Lets everything go once more that no entry needs: whoever referred to it may have been removed since. */
  dropAll(): void {
    for (const objectId of this.#stored.dead) this.#dropAgain(objectId);
  }

  #dropAgain(objectId: string): void {
    this.#stored.drops.add(objectId);
    this.#drop(objectId);
  }

  #drop(objectId: string): void {
    const { client, member, deviceId } = this.#device;
    const stored = this.#stored;
    const dropping = this.#dropping;
    if (client === undefined || !member || dropping.has(objectId)) return;
    dropping.add(objectId);
    this.#truth.drop(deviceId, objectId);
    client.dropObject(objectId).then(
      () => {
        dropping.delete(objectId);
        if (this.#device.client === client) stored.drops.delete(objectId);
      },
      (error: unknown) => {
        dropping.delete(objectId);
        this.#device.judgeAsked("dropObject", client, error);
      },
    );
  }

  /** Gets an object, or a part of it; it must be what was put. Resolves with whether it was there. */
  async get(
    objectId: string,
    range?: { readonly from: number; readonly to: number },
  ): Promise<boolean> {
    const { client, member, name } = this.#device;
    const stored = this.#stored;
    const reference = fromBase64url(stored.live.get(objectId)?.reference ?? "");
    const content = this.#truth.contents.get(objectId);
    if (client === undefined || !member || reference === undefined) return false;
    if (content === undefined) {
      this.#world.fail(`1: ${name} is referred to an object that nobody put`);
      return false;
    }
    try {
      const pieces: Uint8Array[] = [];
      const options = range === undefined ? {} : { range };
      for await (const piece of client.getObject(reference, options)) pieces.push(piece);
      const got = concatBytes(...pieces);
      const expected = bytesOf(content).subarray(range?.from ?? 0, range?.to ?? content.bytes);
      if (Buffer.compare(got, expected) !== 0) {
        this.#world.fail(`1: ${name} gets ${got.byteLength} other bytes as ${content.name}`);
      }
      return true;
    } catch (error) {
      if (this.#device.client !== client) return false;
      const fine = this.#truth.dropped(objectId) || this.#truth.restored;
      if (isMissing(error) && !fine) {
        this.#world.fail(`1: ${name} does not get ${content.name}, which an entry refers to`);
      } else if (!isMissing(error)) {
        this.#device.judgeAsked(`getObject ${content.name}`, client, error);
      }
      return false;
    }
  }
}
