/** What the limits are on this machine, each alone. */
import { inDataFolder } from "../harness/build.ts";
import {
  type Asked,
  alone,
  amount,
  loadOf,
  type Question,
  type Settings,
} from "../harness/measure.ts";
import { withParts } from "../harness/part.ts";
import { limitDurable, loadLimit } from "../harness/sides.ts";
import type { RowShape } from "../limits/group-commit.ts";

const load = {
  clients: 16,
  outstanding: 32,
  payloadBytes: 256,
  warmup: 40_000,
  measured: 100_000,
};

async function echo(settings: Settings, sealed: boolean): Promise<number> {
  return withParts(["limits/echo", "load/limit-load"] as const, async (server, limit) => {
    const { port } = await server.call<{ port: number }>("start", { sealed });
    const { perSecond } = await limit.call<{ perSecond: number }>("pushes", {
      ...loadOf(settings, load),
      port,
      answers: sealed ? "sealed echo" : "bare echo",
    });
    return perSecond;
  });
}

/** L3, with commits of so many rows. */
export function appendRows(shape: RowShape, rowsPerCommit: number, rows: number): Promise<number> {
  return inDataFolder((folder) =>
    withParts(["limits/append"] as const, async (store) => {
      const { perSecond } = await store.call<{ perSecond: number }>("append", {
        folder,
        rowsPerCommit,
        rows,
        payloadBytes: load.payloadBytes,
        shape,
      });
      return perSecond;
    }),
  );
}

async function relay(settings: Settings): Promise<number> {
  const figures = await loadLimit("pushes", {
    ...loadOf(settings, load),
    answers: "acknowledgements",
  });
  return figures["perSecond"] as number;
}

interface Row {
  readonly asked: Asked;
  readonly run: (settings: Settings) => Promise<number>;
}

function appendRow(shape: RowShape, rowsPerCommit: number): Row {
  const columns = shape === "lean" ? "of 256 B" : "of 256 B with the relay's other columns";
  return {
    asked: {
      question: `L3/${shape}/${rowsPerCommit}`,
      what: `SQLite alone, rows ${columns}, in 16 groups, ${rowsPerCommit} a commit`,
      unit: "rows/s",
      sides: { ours: "L3: sqlite3, WAL, synchronous=FULL: fsynced" },
    },
    run: (settings) =>
      appendRows(
        shape,
        rowsPerCommit,
        amount(settings, Math.min(200_000, 2_000 * rowsPerCommit), 5 * rowsPerCommit),
      ),
  };
}

const rows: readonly Row[] = [
  {
    asked: {
      question: "L1",
      what: "bare ws echo, 256 B, 16 clients, 32 outstanding each",
      unit: "messages/s",
      sides: { ours: "L1: ws, nothing is kept" },
    },
    run: (settings) => echo(settings, false),
  },
  {
    asked: {
      question: "L2",
      what: "the same, decrypted and encrypted again with ChaCha20-Poly1305",
      unit: "messages/s",
      sides: { ours: "L2: ws and AEAD, nothing is kept" },
    },
    run: (settings) => echo(settings, true),
  },
  ...[1, 10, 100, 1_000].map((rowsPerCommit) => appendRow("lean", rowsPerCommit)),
  appendRow("full", 1_000),
  {
    asked: {
      question: "L4",
      what: "the least durable relay: L2 and L3; 256 B, 16 clients, 32 outstanding each",
      unit: "pushes/s",
      sides: { ours: limitDurable },
    },
    run: relay,
  },
];

export const limits: Question = {
  name: "limits",
  what: "what the limits are here: ws, ws with AEAD, SQLite, and all of them together",
  ask: async (settings: Settings) => {
    const measured = rows.map(() => [] as number[]);
    for (let i = 0; i < settings.repetitions; i++) {
      settings.progress(`repetition ${i + 1} of ${settings.repetitions}`);
      for (const [at, { run }] of rows.entries()) measured[at]?.push(await run(settings));
    }
    return rows.map(({ asked }, at) => alone(asked, measured[at] ?? []));
  },
};
