/**
 * WebKitGTK, the engine that a Tauri app has on Linux, driven over WebDriver: plain HTTP requests, no
 * library. It runs in a display of its own, which nobody sees.
 *
 * Debian: `apt-get install webkit2gtk-driver xvfb dbus-daemon`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";

const driverPath = "/usr/bin/WebKitWebDriver";
const needed = [driverPath, "/usr/bin/xvfb-run", "/usr/bin/dbus-run-session"];
/** How long the driver may take to listen, and a script in the page to answer, in milliseconds. */
const startMsMax = 30_000;
const scriptMsMax = 600_000;

function miniBrowser(): string | undefined {
  // By architecture, and by the version of GTK: any of them will do.
  for (const architecture of readdirSync("/usr/lib").filter((name) => name.includes("-linux-"))) {
    for (const name of ["webkit2gtk-4.1", "webkitgtk-6.0", "webkit2gtk-4.0"]) {
      const path = `/usr/lib/${architecture}/${name}/MiniBrowser`;
      if (existsSync(path)) return path;
    }
  }
  return undefined;
}

/** Why there is no WebKitGTK to test in; false where there is one. */
export const webkitMissing: string | false =
  needed.every(existsSync) && miniBrowser() !== undefined
    ? false
    : "no WebKitGTK here: apt-get install webkit2gtk-driver xvfb dbus-daemon";

/** A browser with a profile of its own. */
export class WebKit {
  readonly #driver: ChildProcess;
  readonly #url: string;
  #session = "";

  private constructor(driver: ChildProcess, url: string) {
    this.#driver = driver;
    this.#url = url;
  }

  static async start(): Promise<WebKit> {
    const port = await freePort();
    const driver = spawn(
      "/usr/bin/dbus-run-session",
      ["--", "/usr/bin/xvfb-run", "-a", driverPath, `--port=${port}`],
      // A group of its own, so that all of it can be ended.
      { stdio: "ignore", detached: true },
    );
    const webkit = new WebKit(driver, `http://127.0.0.1:${port}`);
    try {
      await webkit.#listening();
      const { sessionId } = await webkit.#call<{ sessionId: string }>("POST", "/session", {
        capabilities: {
          alwaysMatch: {
            "webkitgtk:browserOptions": { binary: miniBrowser(), args: ["--automation"] },
            timeouts: { script: scriptMsMax },
          },
        },
      });
      webkit.#session = `/session/${sessionId}`;
      return webkit;
    } catch (error) {
      await webkit.close();
      throw error;
    }
  }

  async #listening(): Promise<void> {
    for (const sinceMs = performance.now(); ; ) {
      try {
        await this.#call("GET", "/status");
        return;
      } catch (error) {
        if (performance.now() - sinceMs > startMsMax) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  async #call<T>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown): Promise<T> {
    const response = await fetch(`${this.#url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const { value } = (await response.json()) as {
      value: T & { error?: string; message?: string };
    };
    if (!response.ok) throw new Error(`WebDriver: ${value.error ?? ""} ${value.message ?? ""}`);
    return value;
  }

  /** Loads a page in the window that is looked at. */
  async go(url: string): Promise<void> {
    await this.#call("POST", `${this.#session}/url`, { url });
  }

  async reload(): Promise<void> {
    await this.#call("POST", `${this.#session}/refresh`, {});
  }

  /** Another tab of the same profile; it is not looked at yet. */
  async tab(): Promise<string> {
    const { handle } = await this.#call<{ handle: string }>("POST", `${this.#session}/window/new`, {
      type: "tab",
    });
    return handle;
  }

  async window(): Promise<string> {
    return await this.#call("GET", `${this.#session}/window`);
  }

  async look(handle: string): Promise<void> {
    await this.#call("POST", `${this.#session}/window`, { handle });
  }

  /** Runs a function in the page, and gives what it resolves with. It sees nothing but its arguments. */
  async run<Args extends readonly unknown[], T>(
    run: (...args: Args) => Promise<T> | T,
    ...args: Args
  ): Promise<Awaited<T>> {
    const script = `
      globalThis.__name = (value) => value;
      const done = arguments[arguments.length - 1];
      Promise.resolve()
        .then(() => (${String(run)})(...[...arguments].slice(0, -1)))
        .then((value) => done({ value }), (error) => done({ error: String(error), stack: String(error && error.stack) }));`;
    const answer = await this.#call<{ value?: Awaited<T>; error?: string; stack?: string }>(
      "POST",
      `${this.#session}/execute/async`,
      { script, args },
    );
    if (answer.error !== undefined) throw new Error(`${answer.error}\n${answer.stack ?? ""}`);
    return answer.value as Awaited<T>;
  }

  async close(): Promise<void> {
    if (this.#session !== "") {
      await this.#call("DELETE", this.#session).catch(() => undefined);
    }
    const { pid, exitCode } = this.#driver;
    if (pid === undefined || exitCode !== null) return;
    const gone = new Promise((resolve) => this.#driver.once("exit", resolve));
    try {
      process.kill(-pid, "SIGTERM");
    } catch {
      // It has ended by itself.
      return;
    }
    await gone;
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => {
        if (typeof address === "object" && address !== null) resolve(address.port);
        else reject(new Error("no port is free"));
      });
    });
  });
}
