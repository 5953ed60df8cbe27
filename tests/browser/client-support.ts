/** Pages with the library on them, on a server of their own, and devices in them. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { BrowserContext, Page } from "playwright-core";
import { bundle } from "./bundle.ts";
import { newContext } from "./chromium.ts";
import type { app as pageApp } from "./page/app.ts";

declare global {
  /** What `page/app.ts` leaves there. */
  var app: typeof pageApp;
}

let bundled: Promise<string> | undefined;

/** A server of the tests' page; its port. */
export async function servePage(t: TestContext, address = "127.0.0.1"): Promise<number> {
  bundled ??= bundle({ file: fileURLToPath(new URL("page/app.ts", import.meta.url)) }).then(
    ({ code }) => code,
  );
  const code = await bundled;
  const server = createServer((request, response) => {
    if (request.url === "/app.js") {
      response.writeHead(200, { "content-type": "text/javascript" }).end(code);
    } else {
      response
        .writeHead(200, { "content-type": "text/html" })
        .end(
          '<!doctype html><title>app</title><link rel="icon" href="data:,"><script type="module" src="/app.js"></script>',
        );
    }
  });
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A browser profile: what the tabs of one device share. */
export class Profile {
  readonly context: BrowserContext;
  readonly #origin: string;

  private constructor(context: BrowserContext, origin: string) {
    this.context = context;
    this.#origin = origin;
  }

  static async make(
    t: TestContext,
    port: number,
    host: "127.0.0.1" | "insecure.test" = "127.0.0.1",
  ): Promise<Profile> {
    return new Profile(await newContext(t), `http://${host}:${port}`);
  }

  /** A tab with the page, and the device opened in it. */
  async tab(options: TabOptions = {}): Promise<Tab> {
    const page = await this.context.newPage();
    await page.goto(`${this.#origin}/`);
    const tab = new Tab(page);
    await tab.open(options);
    return tab;
  }
}

export interface TabOptions {
  readonly relay?: string;
  readonly name?: string;
  readonly queueEntriesMax?: number;
}

export class Tab {
  readonly page: Page;

  constructor(page: Page) {
    this.page = page;
  }

  async open(options: TabOptions = {}): Promise<string> {
    await this.page.waitForFunction(() => globalThis.app !== undefined);
    return await this.page.evaluate((given) => app.open(given), options);
  }

  async reload(options: TabOptions = {}): Promise<void> {
    await this.page.reload();
    await this.open(options);
  }

  found(invite?: string): Promise<void> {
    return this.page.evaluate(
      (code) => app.client.createGroup(code === undefined ? {} : { invite: code }),
      invite,
    );
  }

  invite(): Promise<{ code: string; link: string }> {
    return this.page.evaluate(() => app.invite());
  }

  join(codeOrLink: string): Promise<void> {
    return this.page.evaluate((text) => app.client.join(text), codeOrLink);
  }

  push(...texts: string[]): Promise<number[]> {
    return this.page.evaluate((all) => app.push(...all), texts);
  }

  apply(): Promise<void> {
    return this.page.evaluate(() => app.apply());
  }

  flush(): Promise<void> {
    return this.page.evaluate(() => app.client.flush());
  }

  lines(): Promise<string[]> {
    return this.page.evaluate(() => app.lines);
  }

  leads(): Promise<boolean> {
    return this.page.evaluate(() => app.client.leading);
  }

  /** Waits until so many lines were applied here, and gives them. */
  async applied(count: number): Promise<string[]> {
    await this.page.waitForFunction((wanted) => app.lines.length >= wanted, count);
    return await this.lines();
  }

  /** Waits for a state of the connection. */
  async becomes(state: string): Promise<void> {
    await this.page.waitForFunction(
      (wanted) => app.client.status().connection.state === wanted,
      state,
    );
  }

  async inSync(): Promise<void> {
    await this.page.waitForFunction(() => app.client.status().inSync);
  }
}
