/** Waits with an end: a run that hangs says at what. */
import { availableParallelism, loadavg } from "node:os";

/**
 * On a machine that has many times as much to do as it can, everything takes as many times as long,
 * and the end comes so much later.
 */
export async function bounded<Value>(
  promise: Promise<Value>,
  ms: number,
  what: () => string,
): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const beganMs = performance.now();
  const late = new Promise<never>((_, reject) => {
    const look = (): void => {
      const leftMs = ms * slowness() - (performance.now() - beganMs);
      if (leftMs > 0) timer = setTimeout(look, leftMs);
      else reject(new Error(`not within ${Math.round(elapsedS())} s: ${what()}`));
    };
    const elapsedS = (): number => (performance.now() - beganMs) / 1_000;
    timer = setTimeout(look, ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** How many times as long things take here now; never endless. */
function slowness(): number {
  const [lastMinute = 0] = loadavg();
  return Math.min(10, Math.max(1, lastMinute / availableParallelism() / 2));
}

/** So long that only what hangs takes longer, on a busy machine as well. */
export const longMs = 120_000;
