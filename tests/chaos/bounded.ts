/** Waits with an end: a run that hangs says at what. */
export async function bounded<Value>(
  promise: Promise<Value>,
  ms: number,
  what: () => string,
): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms / 1_000} s: ${what()}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** So long that only what hangs takes longer, on a busy machine as well. */
export const longMs = 120_000;
