/**
 * A page that has read nothing catches up: received, verified, opened, kept in IndexedDB, handed to an app
 * that does nothing with it, and acknowledged. In Chromium and in WebKitGTK, on an address that counts as
 * secure and on one that does not.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { bundle } from "../../tests/browser/bundle.ts";
import { inDataFolder } from "../harness/build.ts";
import {
  alone,
  amount,
  compare,
  type Figures,
  type Question,
  type Result,
} from "../harness/measure.ts";
import { type Part, withParts } from "../harness/part.ts";
import { chromiumEngine, type Engine, type EnginePage, webkitEngine } from "../load/engines.ts";
import type { Bench } from "../load/page.ts";

const payloadBytes = 256;
const goals = { secure: 10_000, plain: 5_000, blockMs: 50 };

interface Place {
  readonly engine: Engine;
  readonly name: string;
  readonly url: string;
  readonly rate: number;
}

export const browser: Question = {
  name: "browser",
  what: "entries/s in a page that catches up with a log of 256 B entries, and its longest block",
  ask: async (settings) => {
    const page = await servePage();
    const entries = amount(settings, settings.entries ?? 100_000);
    try {
      return await inDataFolder((folder) =>
        withParts(["harness/relay", "load/page-history"] as const, async (relay, writer) => {
          const { address } = await relay.call<{ address: string }>("start", { folder });
          settings.progress(`a device writes ${entries} entries`);
          await writer.call("write", { address, entries, payloadBytes });
          const results: Result[] = [];
          for (const place of places(page.port)) {
            const { missing } = place.engine;
            if (missing !== false) {
              settings.progress(`${place.name} is NOT measured: ${missing}`);
              continue;
            }
            const figures: Figures[] = [];
            for (let i = 0; i < settings.repetitions; i++) {
              settings.progress(`${place.name}, repetition ${i + 1} of ${settings.repetitions}`);
              const run = await catchUp(place, address, entries, writer, settings.pageProfile);
              settings.progress(JSON.stringify(run));
              figures.push(run);
            }
            results.push(...resultsOf(place, entries, figures));
          }
          return results;
        }),
      );
    } finally {
      page.close();
    }
  },
};

/** What is measured where: plain HTTP has neither `crypto.subtle` nor Web Locks. */
function places(port: number): Place[] {
  return [chromiumEngine, webkitEngine].flatMap((engine) => {
    const { name, plainHost } = engine;
    const secure = { engine, name, url: `http://127.0.0.1:${port}/`, rate: goals.secure };
    if (plainHost === undefined) return [secure];
    const url = `http://${plainHost}:${port}/`;
    return [secure, { engine, name: `${name}/plain`, url, rate: goals.plain }];
  });
}

async function catchUp(
  place: Place,
  address: string,
  entries: number,
  writer: Part,
  profile: string | undefined,
): Promise<Figures> {
  const { link } = await writer.call<{ link: string }>("invite");
  const page: EnginePage = await place.engine.open(place.url);
  try {
    // What joining costs is not what is asked here.
    await page.run(
      async (relay, link) => {
        const { bench } = globalThis as unknown as { bench: Bench };
        await bench.join(relay, link);
      },
      address,
      link,
    );
    const { result, cpuUs } = await page.measured(
      (count) => (globalThis as unknown as { bench: Bench }).bench.catchUp(count),
      entries,
      profile,
    );
    if (result.problems.length > 0) throw new Error(`something was wrong: ${result.problems[0]}`);
    return {
      perSecond: entries / result.seconds,
      longestMs: result.longestMs,
      ...(cpuUs === undefined ? {} : { cpuUs: cpuUs / entries }),
    };
  } finally {
    await page.close();
  }
}

function resultsOf(place: Place, entries: number, figures: readonly Figures[]): Result[] {
  const question = `browser/${place.name}`;
  const sides = {
    ours: "a whole device in the page: pulled, verified, opened, kept in IndexedDB, handed over and acknowledged",
    limit: "the goal",
  };
  const against = (limit: number, figure: string): { ours: Figures; limit: Figures }[] =>
    figures.map((ours) => ({ ours, limit: { [figure]: limit } }));
  return [
    compare(
      {
        question,
        what: `catching up with ${entries} entries of ${payloadBytes} B`,
        unit: "entries/s",
        target: 1,
        sides,
      },
      against(place.rate, "perSecond"),
      "perSecond",
    ),
    compare(
      {
        question: `${question}/block`,
        what: "the longest time between two turns of the page's main thread meanwhile",
        unit: "ms",
        target: 1,
        wanted: "at most",
        sides,
      },
      against(goals.blockMs, "longestMs"),
      "longestMs",
    ),
    ...(figures.some(({ cpuUs }) => cpuUs !== undefined)
      ? [
          alone(
            {
              question: `${question}/cpu`,
              what: "processor time of the page's main thread for each entry",
              unit: "µs/entry",
              sides: { ours: sides.ours },
            },
            figures.map(({ cpuUs }) => cpuUs as number),
          ),
        ]
      : []),
  ];
}

/** Serves the page, bundled and minified as an app would ship it. */
async function servePage(): Promise<{ port: number; close: () => void }> {
  const file = fileURLToPath(new URL("../load/page.ts", import.meta.url));
  const { code } = await bundle({ file }, { minify: process.env["BENCH_READABLE"] === undefined });
  const server = createServer((request, response) => {
    const script = request.url === "/page.js";
    response
      .writeHead(200, { "content-type": script ? "text/javascript" : "text/html" })
      .end(
        script
          ? code
          : '<!doctype html><title>bench</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>',
      );
  });
  await new Promise<void>((resolve) => server.listen(0, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
