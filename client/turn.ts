/** Runs something once everything that is running now has finished: what gathers, gathers until then. */
export function atTurnEnd(run: () => void): void {
  void Promise.resolve().then(run);
}
