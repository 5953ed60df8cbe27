/**
 * What a piece of work allocates on the JavaScript heap, in bytes: a measure of its cost that neither
 * the machine's speed nor its mood moves. Buffers outside the heap do not count.
 */
import { GCProfiler, getHeapStatistics } from "node:v8";

/** Runs work and returns what it allocated. Run it once before: code that is compiled allocates, too. */
export async function allocatedBy(work: () => void | Promise<void>): Promise<number> {
  const profiler = new GCProfiler();
  profiler.start();
  const start = getHeapStatistics().used_heap_size;
  await work();
  const end = getHeapStatistics().used_heap_size;
  const { statistics } = profiler.stop();
  let allocated = 0;
  let after = start;
  for (const collection of statistics) {
    allocated += collection.beforeGC.heapStatistics.usedHeapSize - after;
    after = collection.afterGC.heapStatistics.usedHeapSize;
  }
  return allocated + end - after;
}

/** What work may allocate, by the major version of Node: each engine counts otherwise. */
export function allocationBound(by: Readonly<Record<20 | 22 | 24, number>>): number {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < 22) return by[20];
  if (major < 24) return by[22];
  // A newer one than was measured has some room.
  return major < 26 ? by[24] : by[24] * 1.2;
}
