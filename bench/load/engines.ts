/** The browsers that a page is measured in, each with a fresh profile. */
import { existsSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { chromium } from "playwright-core";
import { WebKit, webkitMissing } from "../../tests/browser/webkit.ts";

/** A page in a browser of its own. */
export interface EnginePage {
  run<Args extends readonly unknown[], T>(
    run: (...args: Args) => Promise<T> | T,
    ...args: Args
  ): Promise<Awaited<T>>;
  /** The same, with what it cost the page's main thread, where the browser says so. */
  measured<Arg, T>(
    run: (arg: Arg) => Promise<T>,
    arg: Arg,
    profile: string | undefined,
  ): Promise<{ readonly result: Awaited<T>; readonly cpuUs: number | undefined }>;
  close(): Promise<void>;
}

export interface Engine {
  readonly name: string;
  /** Why it is not there; false where it is. */
  readonly missing: string | false;
  /** A name of this machine that counts as no secure context, where there is one. */
  readonly plainHost: string | undefined;
  open(url: string): Promise<EnginePage>;
}

const chromiumPath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";

export const chromiumEngine: Engine = {
  name: "chromium",
  missing: existsSync(chromiumPath) ? false : `no browser at ${chromiumPath}`,
  // Of this machine all the same: a page of another address may not connect to it.
  plainHost: "insecure.test",
  open: async (url) => {
    const browser = await chromium.launch({
      executablePath: chromiumPath,
      args: [
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--host-resolver-rules=MAP insecure.test 127.0.0.1",
      ],
    });
    const page = await (await browser.newContext()).newPage();
    await page.addInitScript({ content: "globalThis.__name = (value) => value;" });
    await page.goto(url);
    const run: EnginePage["run"] = (run, ...args) =>
      page.evaluate(`(${String(run)})(...${JSON.stringify(args)})`);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
    const taskSeconds = async (): Promise<number> => {
      const { metrics } = await cdp.send("Performance.getMetrics");
      return metrics.find(({ name }) => name === "TaskDuration")?.value ?? Number.NaN;
    };
    return {
      run,
      measured: async (work, arg, profile) => {
        if (profile !== undefined) {
          await cdp.send("Profiler.enable");
          await cdp.send("Profiler.start");
        }
        const before = await taskSeconds();
        const result = await run(work, arg);
        const cpuUs = 1e6 * ((await taskSeconds()) - before);
        if (profile !== undefined) {
          const taken = await cdp.send("Profiler.stop");
          writeFileSync(profile, JSON.stringify(taken.profile));
        }
        return { result, cpuUs };
      },
      close: () => browser.close(),
    };
  },
};

export const webkitEngine: Engine = {
  name: "webkitgtk",
  missing: webkitMissing,
  plainHost: Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find(({ family, internal }) => family === "IPv4" && !internal)?.address,
  open: async (url) => {
    const webkit = await WebKit.start();
    await webkit.go(url);
    return {
      run: (run, ...args) => webkit.run(run, ...args),
      measured: async (work, arg) => ({ result: await webkit.run(work, arg), cpuUs: undefined }),
      close: () => webkit.close(),
    };
  },
};
