/** Devices whose app is a Yjs document, in virtual time. */
import * as Y from "yjs";
import {
  type DocChange,
  type DocStore,
  MemoryDocStore,
  type YjsProblem,
  YjsProvider,
  type YjsProviderOptions,
} from "../../client/yjs/index.ts";
import { Device, pair } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";

/** A store that keeps count, and fails where a test wants it to. */
export class CountingStore extends MemoryDocStore {
  readonly added: DocChange[] = [];
  failsWith: Error | undefined;

  override async add(change: DocChange): Promise<number | undefined> {
    if (this.failsWith !== undefined) throw this.failsWith;
    this.added.push(change);
    return await super.add(change);
  }
}

export class DocDevice {
  readonly device: Device;
  readonly problems: YjsProblem[] = [];
  doc!: Y.Doc;
  provider!: YjsProvider;
  store = new CountingStore();

  constructor(relay: FakeRelay) {
    this.device = new Device(relay);
  }

  get client() {
    return this.device.client;
  }

  get texts(): string[] {
    return this.doc.getArray<string>("texts").toArray();
  }

  get map(): Y.Map<unknown> {
    return this.doc.getMap("map");
  }

  write(...texts: string[]): void {
    this.doc.getArray<string>("texts").push(texts);
  }

  /** Starts a process: a new document, from the store and on the disk that are there. */
  async start(options: Partial<YjsProviderOptions> = {}, store?: DocStore): Promise<this> {
    const { world } = this.device;
    this.doc = new Y.Doc();
    this.provider = await YjsProvider.open({
      doc: this.doc,
      store: store ?? this.store,
      setTimer: (ms, run) => world.after(ms, run),
      onProblem: (problem) => this.problems.push(problem),
      ...options,
    });
    await this.device.start(this.provider.clientOptions);
    this.provider.connect(this.client);
    return this;
  }

  /** The process dies, and another one starts. */
  async restart(options: Partial<YjsProviderOptions> = {}): Promise<this> {
    this.device.crash();
    // Nothing of it runs any more; what it had not stored is gone with its document.
    void this.provider.close();
    return await this.start(options);
  }

  async founds(): Promise<this> {
    const { world } = this.device;
    await world.result(this.client.createGroup());
    await world.until(() => this.client.status().connection.state === "online");
    return this;
  }
}

/** A group of so many devices, the first its founder. */
export async function docDevices(count: number, options: Partial<YjsProviderOptions> = {}) {
  const world = new World();
  const relay = new FakeRelay(world);
  const devices = [await (await new DocDevice(relay).start(options)).founds()];
  for (let i = 1; i < count; i++) {
    const joiner = await new DocDevice(relay).start(options);
    await pair((devices[0] as DocDevice).device, joiner.device);
    devices.push(joiner);
  }
  return { world, relay, devices };
}

/** Waits until nothing is left to send or to apply, and all documents are the same. */
export async function converge(world: World, devices: readonly DocDevice[]): Promise<void> {
  const heads = () => devices.map((device) => device.client.status().readCursor);
  await world.until(
    () =>
      devices.every(({ device, provider }) => provider.unqueued === 0 && device.inSync) &&
      new Set(heads()).size === 1,
  );
  const [first] = devices.map(({ doc }) => JSON.stringify(plain(doc)));
  for (const { doc } of devices) {
    const text = JSON.stringify(plain(doc));
    if (text !== first) throw new Error(`documents differ: ${first} and ${text}`);
  }
}

function plain(doc: Y.Doc): unknown {
  const map = doc.getMap("map");
  return [
    doc.getArray("texts").toArray(),
    [...map.keys()].toSorted().map((key) => [key, map.get(key)]),
  ];
}
