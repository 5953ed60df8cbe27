/** Two sides of a question, measured in turns, and what came of it. */

/** What a question's run says. */
export interface Result {
  readonly question: string;
  /** What is compared, for people. */
  readonly what: string;
  readonly unit: string;
  /** Median. */
  readonly ours: number;
  /** Median; undefined where there is nothing to compare with. */
  readonly limit: number | undefined;
  /** `ours / limit`. */
  readonly ratio: number | undefined;
  readonly target: number | undefined;
  /** Whether the ratio must be at least the target, or at most. */
  readonly wanted: "at least" | "at most";
  readonly met: boolean | undefined;
  readonly runs: readonly Run[];
  /** What each side is, and how durable what it acknowledges. */
  readonly sides: { readonly ours: string; readonly limit?: string };
}

/** One repetition: both sides, one right after the other. */
export interface Run {
  readonly ours: number;
  readonly limit?: number;
}

/** A question without its figures. */
export type Asked = Pick<Result, "question" | "what" | "unit" | "sides"> & {
  readonly target?: number;
  readonly wanted?: Result["wanted"];
};

/** What a question needs to know of the command line. */
export interface Settings {
  readonly repetitions: number;
  /** Node options for the relay's process: to profile it. */
  readonly relayOptions: readonly string[];
  /** Asks a fiftieth: it shows that a question works, and its figures say nothing. */
  readonly short: boolean;
  /** How long a page's log is, where not as long as it should be. */
  readonly entries?: number;
  /** Where a profile of a page goes. */
  readonly pageProfile?: string;
  /** Tells how far it is. */
  readonly progress: (text: string) => void;
}

/** A question: one file in `questions/`. */
export interface Question {
  readonly name: string;
  readonly what: string;
  readonly ask: (settings: Settings) => Promise<Result[]>;
}

/** Figures of one run of one side, by what they are called. */
export type Figures = Readonly<Record<string, number>>;

/**
 * Runs both sides in turns, and the other one first each time: what else the
 * machine does, and how warm it is, then bears on both alike.
 */
export async function inTurns(
  settings: Settings,
  ours: () => Promise<Figures>,
  limit: () => Promise<Figures>,
): Promise<{ readonly ours: Figures; readonly limit: Figures }[]> {
  const pairs: { ours: Figures; limit: Figures }[] = [];
  for (let i = 0; i < settings.repetitions; i++) {
    settings.progress(`repetition ${i + 1} of ${settings.repetitions}`);
    if (i % 2 === 0) {
      const first = await limit();
      pairs.push({ limit: first, ours: await ours() });
    } else {
      const first = await ours();
      pairs.push({ ours: first, limit: await limit() });
    }
  }
  return pairs;
}

/** The result of runs in turns, in one of their figures. */
export function compare(
  asked: Asked,
  pairs: readonly { readonly ours: Figures; readonly limit: Figures }[],
  figure: string,
): Result {
  const runs = pairs.map((pair) => ({
    ours: pair.ours[figure] as number,
    limit: pair.limit[figure] as number,
  }));
  const ours = median(runs.map((run) => run.ours));
  const limit = median(runs.map((run) => run.limit));
  const ratio = ours / limit;
  const wanted = asked.wanted ?? "at least";
  const { target } = asked;
  const met =
    target === undefined ? undefined : wanted === "at least" ? ratio >= target : ratio <= target;
  return { ...asked, target, wanted, ours, limit, ratio, met, runs };
}

/**
 * What a unit of the work cost each side's server: processor time of all its
 * threads, and how many units shared a commit. These drift less than rates do,
 * and say where a rate comes from.
 */
export function costs(
  asked: Pick<Result, "question" | "sides">,
  pairs: readonly { readonly ours: Figures; readonly limit: Figures }[],
  unit: string,
  units: number,
): Result[] {
  const cost = (figures: Figures): Figures => ({
    cpu: (figures["cpuUs"] as number) / units,
    shared: units / (figures["commits"] as number),
  });
  const spent = pairs.map(({ ours, limit }) => ({ ours: cost(ours), limit: cost(limit) }));
  const { question } = asked;
  return [
    compare(
      {
        ...asked,
        question: `${question}/cpu`,
        what: `processor time of the server for each ${unit}`,
        unit: `µs/${unit}`,
        wanted: "at most",
      },
      spent,
      "cpu",
    ),
    compare(
      {
        ...asked,
        question: `${question}/commit`,
        what: `how many shared a commit`,
        unit: `${unit}/commit`,
      },
      spent,
      "shared",
    ),
  ];
}

/** How much is asked: all of it, or in the short mode a fiftieth, and `least` at least. */
export function amount(settings: Settings, full: number, least = 1): number {
  return settings.short ? Math.max(least, Math.round(full / 50)) : full;
}

/** A load with its counts as the settings say. */
export function loadOf<Load extends { readonly warmup: number; readonly measured: number }>(
  settings: Settings,
  load: Load,
): Load {
  return {
    ...load,
    warmup: amount(settings, load.warmup),
    measured: amount(settings, load.measured),
  };
}

/** The result of one side's runs against a bound that does not depend on the machine. */
export function within(asked: Asked, figures: readonly number[], bound: number): Result {
  return compare(
    asked,
    figures.map((it) => ({ ours: { it }, limit: { it: bound } })),
    "it",
  );
}

/** The result of one side's runs. */
export function alone(asked: Asked, figures: readonly number[]): Result {
  return {
    ...asked,
    target: undefined,
    wanted: "at least",
    ours: median(figures),
    limit: undefined,
    ratio: undefined,
    met: undefined,
    runs: figures.map((ours) => ({ ours })),
  };
}

/** The middle of the values; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  const upper = sorted[Math.floor(half)] as number;
  return Number.isInteger(half) ? ((sorted[half - 1] as number) + upper) / 2 : upper;
}

/** The value below which that share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}
