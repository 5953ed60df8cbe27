// @ts-check
/** From what the relay counts to what people read: speeds, shares and percentiles. Pure. */

/**
 * @typedef {object} Histogram
 * @property {number[]} bounds
 * @property {number[]} counts one more than there are bounds
 */

/**
 * A reading of the relay's figures.
 *
 * @typedef {object} Reading
 * @property {number} atMs when it was taken
 * @property {number} uptimeS
 * @property {number} members sessions of devices that are in a group
 * @property {number} lobby sessions of devices that pair or found
 * @property {number} liveGroups
 * @property {number} groups
 * @property {number} blobs
 * @property {number} stored blobs that came in
 * @property {number} delivered blobs that went out as they were committed
 * @property {number} receivedBytes
 * @property {number} sentBytes
 * @property {Histogram} commits
 * @property {number} queuedBytes
 * @property {number} liveBytes
 * @property {number} limitBytes
 * @property {number} fileBytes
 * @property {number} freeBytes
 * @property {number} residentBytes
 * @property {number} loopDelayS
 */

/**
 * What happened between two readings, per second where it is a speed.
 *
 * @typedef {object} Speeds
 * @property {number} stored
 * @property {number} delivered
 * @property {number} receivedBytes
 * @property {number} sentBytes
 * @property {number | undefined} median of the commits between them, in seconds; undefined where there were none
 * @property {number | undefined} worst their 99th percentile
 */

/**
 * Reads the answer of `MetricsService/Get`. What is missing is 0: JSON leaves zeros out.
 *
 * @param {{ metrics?: any[] }} answer
 * @param {number} atMs
 * @returns {Reading}
 */
export function readFigures(answer, atMs) {
  const metrics = new Map((answer.metrics ?? []).map((metric) => [metric.name, metric]));
  /**
   * @param {string} name
   * @param {Record<string, string>} [labels]
   */
  const sample = (name, labels = {}) =>
    (metrics.get(`sync_relay_${name}`)?.samples ?? []).find((/** @type {any} */ each) =>
      Object.entries(labels).every(([key, value]) => each.labels?.[key] === value),
    );
  /**
   * @param {string} name
   * @param {Record<string, string>} [labels]
   */
  const value = (name, labels) => Number(sample(name, labels)?.value ?? 0);
  const { bounds = [], counts = [] } = sample("commit_duration_seconds")?.histogram ?? {};
  return {
    atMs,
    uptimeS: value("uptime_seconds"),
    members: value("sessions", { kind: "member" }),
    lobby: value("sessions", { kind: "lobby" }),
    liveGroups: value("live_groups"),
    groups: value("store_groups"),
    blobs: value("store_blobs"),
    stored: value("blobs_stored_total"),
    delivered: value("blobs_delivered_total"),
    receivedBytes: value("received_bytes_total"),
    sentBytes: value("sent_bytes_total"),
    commits: { bounds: bounds.map(Number), counts: counts.map(Number) },
    queuedBytes: value("commit_queue_bytes"),
    liveBytes: value("store_live_bytes"),
    limitBytes: value("store_limit_bytes"),
    fileBytes: value("store_file_bytes"),
    freeBytes: value("store_reclaimable_bytes"),
    residentBytes: value("resident_bytes"),
    loopDelayS: value("event_loop_delay_seconds", { quantile: "0.99" }),
  };
}

/**
 * The speeds between two readings; undefined where the relay was restarted in
 * between, and has counted from 0 again.
 *
 * @param {Reading} before
 * @param {Reading} after
 * @returns {Speeds | undefined}
 */
export function speedsBetween(before, after) {
  const seconds = (after.atMs - before.atMs) / 1_000;
  if (seconds <= 0 || after.uptimeS < before.uptimeS) return undefined;
  /** @param {"stored" | "delivered" | "receivedBytes" | "sentBytes"} name */
  const speed = (name) => Math.max(0, after[name] - before[name]) / seconds;
  const counts = after.commits.counts.map((count, at) =>
    Math.max(0, count - (before.commits.counts[at] ?? 0)),
  );
  const { bounds } = after.commits;
  return {
    stored: speed("stored"),
    delivered: speed("delivered"),
    receivedBytes: speed("receivedBytes"),
    sentBytes: speed("sentBytes"),
    median: percentile({ bounds, counts }, 0.5),
    worst: percentile({ bounds, counts }, 0.99),
  };
}

/**
 * Below which value a share of all lie: read from the ranges they fell into, as if
 * those of one range were spread evenly. Undefined where there are none; the last
 * bound where it lies above all of them.
 *
 * @param {Histogram} histogram
 * @param {number} share
 * @returns {number | undefined}
 */
export function percentile({ bounds, counts }, share) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (total === 0) return undefined;
  const wanted = share * total;
  let below = 0;
  for (const [at, count] of counts.entries()) {
    if (count > 0 && below + count >= wanted) {
      const from = bounds[at - 1] ?? 0;
      const to = bounds[at] ?? from;
      return from + ((to - from) * (wanted - below)) / count;
    }
    below += count;
  }
  return bounds.at(-1);
}

/**
 * The last minutes of a figure or several, oldest first, for a graph: as many
 * columns as the graph has lines, and the times before them.
 */
export class Trail {
  /** @type {number} */
  #lengthMax;
  /** @type {(number | null)[][]} */
  #columns;

  /**
   * @param {number} lines
   * @param {number} lengthMax points kept
   */
  constructor(lines, lengthMax) {
    this.#lengthMax = lengthMax;
    this.#columns = Array.from({ length: lines + 1 }, () => []);
  }

  /**
   * @param {number} atMs
   * @param {(number | undefined)[]} values undefined: not known, a gap in the line
   */
  add(atMs, values) {
    for (const [at, column] of this.#columns.entries()) {
      column.push(at === 0 ? atMs / 1_000 : (values[at - 1] ?? null));
      if (column.length > this.#lengthMax) column.shift();
    }
  }

  /** Times in seconds, then one column for each line. */
  get columns() {
    return this.#columns;
  }
}
