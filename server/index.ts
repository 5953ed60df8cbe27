/** A relay inside a program of one's own. */
export { type RunningRelay, relayAddress, startRelay } from "./main.ts";
export {
  defaultLimits,
  defaultOptions,
  type RelayLimits,
  type RelayOptions,
  RelayOptionsError,
  type RelayOptionsInput,
} from "./options.ts";
