/** The app asked for what makes no sense now, such as a second group. A defect of the app, not of the network. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
