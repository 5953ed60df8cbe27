/** The app asked for what makes no sense now, such as a second group. A defect of the app, not of the network. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** So much is queued that nothing more is taken: nothing was queued. Sending it makes room; `flush` waits for that. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
  /** Entries that are queued. */
  readonly queued: number;
  /** The bound: `queueEntriesMax`. */
  readonly bound: number;

  constructor(queued: number, bound: number) {
    super(`${queued} entries are queued, of at most ${bound}: they must be sent first`);
    this.queued = queued;
    this.bound = bound;
  }
}
