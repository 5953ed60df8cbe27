/** A relay inside a program of one's own. */
export { type RelayParts, type RunningRelay, relayAddress, startRelay } from "./main.ts";
export {
  defaultLimits,
  defaultOptions,
  type RelayLimits,
  type RelayOptions,
  RelayOptionsError,
  type RelayOptionsInput,
  type WebPushOptions,
} from "./options.ts";
export type { WakeUpPlace } from "./wake-up-requests.ts";
export type { WakeUpOutcome, WakeUpSender } from "./wake-ups.ts";
