/** What was typed is no recovery phrase. */
export class PhraseError extends Error {
  override readonly name = "PhraseError";
  /** The places, from 1, of words that are not in the list. */
  readonly unknown: readonly number[];

  constructor(message: string, unknown: readonly number[] = []) {
    super(message);
    this.unknown = unknown;
  }
}
