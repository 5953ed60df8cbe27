/** What a soak saw, and whether it drifts. Pure. */

export interface Sample {
  readonly atS: number;
  readonly rssMiB: number;
  readonly descriptors: number;
  /** Acknowledged since the sample before. */
  readonly pushes: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly worstMs: number;
}

export interface Drift {
  readonly slopeMiBPerHour: number;
  /** Of the memory in the middle, an hour. */
  readonly sharePerHour: number;
  /** The most at once in the last quarter above the most in the second. */
  readonly descriptors: number;
}

/** The first quarter is warming up: caches fill, code is compiled. */
export function drift(samples: readonly Sample[]): Drift {
  const settled = samples.slice(Math.floor(samples.length / 4));
  if (settled.length < 2) return { slopeMiBPerHour: 0, sharePerHour: 0, descriptors: 0 };
  const meanOf = (of: (sample: Sample) => number): number =>
    settled.reduce((sum, sample) => sum + of(sample), 0) / settled.length;
  const meanS = meanOf(({ atS }) => atS);
  const meanMiB = meanOf(({ rssMiB }) => rssMiB);
  // Least squares.
  const over = meanOf(({ atS, rssMiB }) => (atS - meanS) * (rssMiB - meanMiB));
  const under = meanOf(({ atS }) => (atS - meanS) ** 2);
  const slopeMiBPerHour = under === 0 ? 0 : (over / under) * 3_600;
  const most = (part: readonly Sample[]): number =>
    Math.max(...part.map(({ descriptors }) => descriptors));
  const third = Math.max(1, Math.floor(settled.length / 3));
  return {
    slopeMiBPerHour,
    sharePerHour: slopeMiBPerHour / meanMiB,
    descriptors: most(settled.slice(-third)) - most(settled.slice(0, third)),
  };
}

/** Memory that rises by more than this share an hour is a leak. */
const shareMax = 0.05;
/** A short soak sees the noise of the collector as a slope; so much of the memory is no drift. */
const noiseShare = 0.05;

export function summary(samples: readonly Sample[]): Drift & {
  readonly steady: boolean;
  readonly text: string;
} {
  const found = drift(samples);
  const pushes = samples.reduce((sum, sample) => sum + sample.pushes, 0);
  const hours = (samples.at(-1)?.atS ?? 0) / 3_600;
  const risen = found.sharePerHour * hours * 0.75;
  const steady = (found.sharePerHour <= shareMax || risen <= noiseShare) && found.descriptors <= 0;
  const middle = (of: (sample: Sample) => number): number =>
    samples.map(of).sort((a, b) => a - b)[Math.floor(samples.length / 2)] ?? 0;
  return {
    ...found,
    steady,
    text:
      `${(hours * 60).toFixed(1)} minutes, ${pushes} pushes: resident ${middle(({ rssMiB }) => rssMiB).toFixed(1)} MiB, ` +
      `slope ${found.slopeMiBPerHour.toFixed(2)} MiB an hour (${(found.sharePerHour * 100).toFixed(1)}%), ` +
      `descriptors ${found.descriptors >= 0 ? "+" : ""}${found.descriptors}, ` +
      `p50 ${middle(({ p50Ms }) => p50Ms).toFixed(1)} ms, p99 ${middle(({ p99Ms }) => p99Ms).toFixed(1)} ms (medians of the samples); ` +
      (steady ? "steady" : "NOT STEADY"),
  };
}
