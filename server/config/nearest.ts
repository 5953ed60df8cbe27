/** Which of some names somebody most likely meant. */

/** The name that takes the fewest changes; undefined where none is near. */
export function nearest(wrong: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let fewest = Infinity;
  for (const name of names) {
    // A key in the wrong table is nearer than its whole path says, and not quite as near as its own.
    const changes = Math.min(nearness(wrong, name), nearness(last(wrong), last(name)) + 0.5);
    if (changes < fewest) {
      fewest = changes;
      best = name;
    }
  }
  return best;
}

/** The changes from one to the other, where they are few for that length. */
function nearness(a: string, b: string): number {
  const changes = changesBetween(a, b);
  return changes <= Math.max(1, Math.floor(a.length / 3)) ? changes : Infinity;
}

function last(key: string): string {
  return key.slice(key.lastIndexOf(".") + 1);
}

/** Levenshtein's distance: letters added, left out or exchanged. */
function changesBetween(a: string, b: string): number {
  // Nobody writes a key that long; the work stays bounded whatever a file holds.
  if (a.length > 128) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const exchanged = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(exchanged, (row[j] as number) + 1, (next[j - 1] as number) + 1));
    }
    row = next;
  }
  return row[b.length] as number;
}
