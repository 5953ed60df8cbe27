/**
 * Chromium, as it is installed: found, not fetched. Where there is none the tests are
 * skipped, and say so louder than a line in a list.
 */
import { existsSync } from "node:fs";
import { after, type TestContext } from "node:test";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const candidates = [
  process.env["CHROMIUM"],
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
];

/** Where Chromium is; undefined where there is none. */
const executablePath = candidates.find((path) => path !== undefined && existsSync(path));

/** Why the tests cannot run; false where they can. What `test` takes as `skip`. */
export const skip: string | false =
  executablePath === undefined
    ? "there is no Chromium: apt-get install chromium, or set CHROMIUM to its path"
    : false;

if (skip !== false) {
  const line = "!".repeat(skip.length + 22);
  process.stderr.write(`\n${line}\n!! NOT TESTED: ${skip} !!\n${line}\n\n`);
}

const args = [
  // A test runs as root in a container, where Chromium has no sandbox to make.
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--disable-gpu",
  "--disable-quic",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
  // A name of this machine that is no secure context, as a server at home without TLS has it.
  "--host-resolver-rules=MAP insecure.test 127.0.0.1",
];

export interface OpenPage {
  readonly page: Page;
  /** What the page complained of: errors, and breaches of its content security policy. */
  readonly complaints: readonly string[];
}

/** One Chromium for a file's tests; each has a profile of its own, which is nowhere on disk. */
let browser: Promise<Browser> | undefined;

after(async () => {
  await (await browser)?.close();
});

function launched(): Promise<Browser> {
  browser ??= chromium.launch({
    ...(executablePath === undefined ? {} : { executablePath }),
    args,
  });
  return browser;
}

/** A profile that shares nothing with others. */
export async function newContext(t: TestContext): Promise<BrowserContext> {
  const context = await (await launched()).newContext();
  t.after(() => context.close());
  context.setDefaultTimeout(60_000);
  await context.addInitScript({ content: "globalThis.__name = (value) => value;" });
  return context;
}

/** An empty page. */
export async function openPage(
  t: TestContext,
  options: { readonly width?: number; readonly height?: number; readonly dark?: boolean } = {},
): Promise<OpenPage> {
  const context = await (await launched()).newContext({
    viewport: { width: options.width ?? 1280, height: options.height ?? 900 },
    colorScheme: options.dark === true ? "dark" : "light",
  });
  t.after(() => context.close());
  context.setDefaultTimeout(60_000);
  const complaints: string[] = [];
  await context.exposeBinding("complain", (_, text: string) => void complaints.push(text));
  // What runs in the page was compiled to keep the names of functions, by a helper that is not there.
  await context.addInitScript({ content: "globalThis.__name = (value) => value;" });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      const { complain } = globalThis as unknown as { complain: (text: string) => void };
      complain(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
    });
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { page, complaints };
}
