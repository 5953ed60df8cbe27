/** What the tests' page holds: the library, an app of a few lines, and nothing else. */
import {
  type BrowserSyncClient,
  type BrowserSyncClientOptions,
  deleteIndexedDbStore,
  openSyncClient,
} from "../../../client/platform/browser/index.ts";

/** An app that keeps what it applied as lines, with the position, in a database of its own. */
export class App {
  client!: BrowserSyncClient;
  readonly lines: string[] = [];
  /** What other tabs applied. */
  readonly seen: string[] = [];
  readonly positions: number[] = [];
  readonly problems: string[] = [];
  applying: Promise<void> = Promise.resolve();

  async open(options: BrowserSyncClientOptions = {}): Promise<string> {
    this.client = await openSyncClient({ codeCost: { memoryKiB: 8, passes: 1 }, ...options });
    this.client.on("error", (error) => void this.problems.push(`${error.name}: ${error.message}`));
    this.client.on("applied", ({ data }) => void this.seen.push(new TextDecoder().decode(data)));
    return this.client.deviceId;
  }

  /** Applies entries as they come. */
  apply(options: { readonly untilCaughtUp?: boolean } = {}): void {
    this.applying = (async () => {
      for await (const entry of this.client.entries(options)) {
        // What outlives the tab, as an app's own database would.
        localStorage.setItem(`applied ${entry.position}`, entry.blobId);
        this.lines.push(new TextDecoder().decode(entry.data));
        this.positions.push(entry.position);
        await entry.ack();
      }
    })();
  }

  async push(...texts: string[]): Promise<number[]> {
    const items = texts.map((text) => ({ data: new TextEncoder().encode(text) }));
    return (await this.client.pushMany(items)).map(({ seq }) => seq);
  }

  /** Lets the next device in; the code and the link are kept for the test. */
  async invite(): Promise<{ code: string; link: string }> {
    const { code, link, done } = await this.client.invite({
      confirm: (joiner) => joiner.name !== "stranger",
    });
    done.catch(() => undefined);
    return { code, link };
  }
}

export const app: App = new App();
export { deleteIndexedDbStore, openSyncClient };

Object.assign(globalThis, { App, app, openSyncClient, deleteIndexedDbStore });
