/** The example app in Chromium: built as its users get it, served as a file server would, and used as they do. */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { after, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type { BrowserContext, Locator, Page, WebSocketRoute } from "playwright-core";
import { build } from "vite";
import { newContext } from "./chromium.ts";

const folder = fileURLToPath(new URL("../../examples/cashtable", import.meta.url));
const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

let built: Promise<Map<string, string>> | undefined;

/** The app's files by their paths. */
async function files(): Promise<Map<string, string>> {
  const result = await build({ root: folder, logLevel: "silent", build: { write: false } });
  if (Array.isArray(result) || !("output" in result)) throw new Error("vite built something else");
  const all = new Map<string, string>();
  for (const file of result.output) {
    const content = file.type === "chunk" ? file.code : file.source;
    all.set(
      `/${file.fileName}`,
      typeof content === "string" ? content : new TextDecoder().decode(content),
    );
  }
  for (const name of ["icon.svg", "app.webmanifest", "offline.js"]) {
    all.set(`/${name}`, await readFile(join(folder, "public", name), "utf8"));
  }
  all.set("/", all.get("/index.html") ?? "");
  return all;
}

/** A server of the app that can be stopped; its address. */
export async function serveApp(t: TestContext): Promise<string> {
  built ??= files();
  const served = await built;
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://app").pathname;
    const content = served.get(path);
    if (content === undefined) response.writeHead(404).end();
    else {
      const type = types[extname(path)] ?? "text/html";
      response.writeHead(200, { "content-type": type }).end(content);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** What a device's sockets go through: it can be cut. */
class Line {
  readonly #open = new Set<WebSocketRoute>();
  #cut = false;

  opened(socket: WebSocketRoute): void {
    if (this.#cut) {
      void socket.close();
      return;
    }
    this.#open.add(socket);
    socket.connectToServer();
  }

  cut(): void {
    this.#cut = true;
    for (const socket of this.#open) void socket.close();
    this.#open.clear();
  }

  mend(): void {
    this.#cut = false;
  }
}

/** Somebody's device: a browser profile with the app open in it. */
export class Someone {
  readonly page: Page;
  readonly context: BrowserContext;
  readonly address: string;
  readonly line: Line;
  /** What the page complained of, beside being offline. */
  readonly complaints: string[] = [];

  private constructor(context: BrowserContext, page: Page, address: string, line: Line) {
    this.line = line;
    this.context = context;
    this.page = page;
    this.address = address;
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      const text = message.text();
      if (/WebSocket connection|ERR_INTERNET_DISCONNECTED|ERR_CONNECTION/u.test(text)) return;
      this.complaints.push(text);
    });
    page.on("pageerror", (error) => void this.complaints.push(String(error)));
  }

  static async arrives(
    t: TestContext,
    address: string,
    options: { readonly link?: string; readonly width?: number; readonly dark?: boolean } = {},
  ): Promise<Someone> {
    const context = await newContext(t);
    const line = new Line();
    await context.routeWebSocket(/./u, (socket) => line.opened(socket));
    const page = await context.newPage();
    await page.setViewportSize({ width: options.width ?? 1280, height: 860 });
    await page.emulateMedia({
      colorScheme: options.dark === true ? "dark" : "light",
      reducedMotion: "reduce",
    });
    const someone = new Someone(context, page, address, line);
    await page.goto(options.link ?? address);
    return someone;
  }

  /** No network: neither relay nor the server of the page is reached. */
  async leaves(): Promise<void> {
    this.line.cut();
    await this.context.setOffline(true);
    await this.becomes(/Offline|Connecting/);
  }

  async comesBack(): Promise<void> {
    this.line.mend();
    await this.context.setOffline(false);
    // Or it waits until it tries again by itself.
    const now = this.button("Try now");
    if (await now.isVisible()) await now.click().catch(() => undefined);
  }

  button(name: string | RegExp, within: Page | Locator = this.page): Locator {
    return within.getByRole("button", { name });
  }

  async go(place: "Transactions" | "Overview" | "Accounts" | "Devices"): Promise<void> {
    await this.page.getByRole("link", { name: place, exact: true }).click();
  }

  /** Begins a book, and founds a group for it. */
  async begins(options: { relay: string; invite: string; name: string }): Promise<void> {
    const { page } = this;
    await page.getByLabel("Relay address").fill(options.relay);
    await page.getByLabel("Invite").fill(options.invite);
    await page.getByLabel("Name of this device").fill(options.name);
    await this.button("Start").click();
    await page.getByRole("heading", { level: 1 }).first().waitFor();
    await page.getByRole("table").or(page.getByText("yet.")).first().waitFor();
  }

  /** Opens an invite: its code, its link and the relay's address, as they are shown. */
  async invites(): Promise<{ code: string; link: string; relay: string }> {
    const { page } = this;
    await this.go("Devices");
    await this.button("Add a device").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("img", { name: /QR code/ }).waitFor();
    const code = (await dialog.locator(".code").textContent()) ?? "";
    const relay = (await dialog.locator(".address").textContent()) ?? "";
    await this.button("Copy the link", dialog).click();
    const link = await dialog.getByLabel("Link to copy").inputValue();
    return { code, link, relay };
  }

  /** The words to compare that are shown here. */
  async words(): Promise<string[]> {
    await this.page.locator(".words li").nth(2).waitFor();
    return await this.page.locator(".words li").allTextContents();
  }

  async letsIn(): Promise<void> {
    const dialog = this.page.getByRole("dialog");
    await this.button(/let it in/, dialog).click();
    await this.button("Done", dialog).click();
  }

  async enters(entry: {
    readonly amount: string;
    readonly payee: string;
    readonly date: string;
    readonly category?: string;
    readonly account?: string;
    readonly note?: string;
    readonly received?: boolean;
    readonly receipt?: { name: string; mimeType: string; buffer: Buffer };
  }): Promise<void> {
    const { page } = this;
    await page.keyboard.press("n");
    const dialog = page.getByRole("dialog");
    if (entry.received === true) await dialog.getByText("Received").click();
    await dialog.getByLabel(/Amount/).fill(entry.amount);
    await dialog.getByLabel("Payee").fill(entry.payee);
    await dialog.getByLabel("Date").fill(entry.date);
    if (entry.category !== undefined)
      await dialog.getByLabel("Category").selectOption(entry.category);
    if (entry.account !== undefined) await dialog.getByLabel("Account").selectOption(entry.account);
    if (entry.note !== undefined) await dialog.getByLabel("Note").fill(entry.note);
    if (entry.receipt !== undefined) {
      await dialog.locator('input[type="file"]').setInputFiles(entry.receipt);
    }
    await this.button("Save", dialog).click();
    await dialog.waitFor({ state: "hidden" });
  }

  /** What is in each account, as it is shown. */
  async balances(): Promise<Record<string, string>> {
    await this.go("Accounts");
    const cards = this.page.locator(".accounts .card");
    const all: Record<string, string> = {};
    for (const card of await cards.all()) {
      all[(await card.getByRole("button").textContent()) ?? ""] =
        (await card.locator(".amount").textContent()) ?? "";
    }
    return all;
  }

  /** The month's transactions as they are shown: payee and amount, the newest first. */
  async shown(): Promise<string[]> {
    await this.go("Transactions");
    return await this.page
      .locator(".book tbody tr")
      .evaluateAll((rows) =>
        rows.map((row) =>
          [".payee button", ".sum"].map((part) => row.querySelector(part)?.textContent).join(" "),
        ),
      );
  }

  /** Waits for the word in the corner. */
  async becomes(word: string | RegExp): Promise<void> {
    await this.page.locator(".sync").filter({ hasText: word }).waitFor();
  }
}

after(() => {
  built = undefined;
});
