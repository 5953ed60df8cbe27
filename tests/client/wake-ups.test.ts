/** A page's subscription: made with the relay's key, kept while it holds, made anew when it does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { WakeUpSubscription } from "../../client/index.ts";
import {
  disableWakeUps,
  enableWakeUps,
  type PushSubscriptionLike,
} from "../../client/platform/browser/index.ts";
import { toBase64url } from "../../wire/bytes.ts";

const keyOf = (seed: number): Uint8Array<ArrayBuffer> =>
  new Uint8Array(65).fill(seed).fill(4, 0, 1);

/** A browser's push service, and a client that notes what it is asked. */
class Page {
  readonly said: string[] = [];
  registered: WakeUpSubscription | undefined;
  relayKey = keyOf(1);
  subscription: PushSubscriptionLike | null = null;
  keys: Record<string, string> | undefined = { p256dh: "p", auth: "a" };
  #made = 0;

  readonly client = {
    wakeUp: async () => ({
      registered: this.registered !== undefined,
      applicationServerKey: toBase64url(this.relayKey),
    }),
    registerWakeUp: async (subscription: WakeUpSubscription) => {
      this.said.push(`register ${subscription.endpoint}`);
      this.registered = subscription;
    },
    unregisterWakeUp: async () => {
      this.said.push("unregister");
      this.registered = undefined;
    },
  };

  readonly registration = {
    pushManager: {
      getSubscription: async () => this.subscription,
      subscribe: async ({
        userVisibleOnly,
        applicationServerKey,
      }: {
        userVisibleOnly: boolean;
        applicationServerKey: Uint8Array<ArrayBuffer>;
      }) => {
        assert.equal(userVisibleOnly, true);
        this.#made += 1;
        const endpoint = `https://push.example/${this.#made}`;
        this.said.push(`subscribe ${applicationServerKey[1]}`);
        this.subscription = {
          options: { applicationServerKey: applicationServerKey.slice().buffer },
          toJSON: () => ({ endpoint, ...(this.keys === undefined ? {} : { keys: this.keys }) }),
          unsubscribe: async () => {
            this.said.push(`unsubscribe ${endpoint}`);
            this.subscription = null;
            return true;
          },
        };
        return this.subscription;
      },
    },
  };

  async enable(): Promise<string[]> {
    this.said.length = 0;
    await enableWakeUps(this.client, this.registration);
    return this.said;
  }
}

test("a page subscribes with the relay's key, registers, and keeps what it has", async () => {
  const page = new Page();
  assert.deepEqual(await page.enable(), ["subscribe 1", "register https://push.example/1"]);
  assert.deepEqual(page.registered, {
    endpoint: "https://push.example/1",
    keys: { p256dh: "p", auth: "a" },
  });
  assert.deepEqual(await page.enable(), ["register https://push.example/1"]);
});

test("a subscription that the push service has ended, or that was made with another key, is made anew", async () => {
  const page = new Page();
  await page.enable();
  // The relay forgot it when the push service said that it is gone.
  page.registered = undefined;
  const anew = (from: number, key: number): string[] => [
    `unsubscribe https://push.example/${from}`,
    `subscribe ${key}`,
    `register https://push.example/${from + 1}`,
  ];
  assert.deepEqual(await page.enable(), anew(1, 1));
  page.relayKey = keyOf(2);
  assert.deepEqual(await page.enable(), anew(2, 2));
});

test("it is ended at the relay first, then at the push service", async () => {
  const page = new Page();
  await page.enable();
  page.said.length = 0;
  await disableWakeUps(page.client, page.registration);
  assert.deepEqual(page.said, ["unregister", "unsubscribe https://push.example/1"]);
  await disableWakeUps(page.client, page.registration);
});

test("a browser that gives no keys: what it gives is asked, and refused by the client", async () => {
  const page = new Page();
  page.keys = undefined;
  await page.enable();
  assert.deepEqual(page.registered, {
    endpoint: "https://push.example/1",
    keys: { p256dh: "", auth: "" },
  });
});
