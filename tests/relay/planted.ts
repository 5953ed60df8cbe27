/**
 * The checks that keep waking devices from reaching, telling or keeping what it must not, each taken out:
 * `npm run mutants -- wake-up`.
 */
import type { PlantedBug } from "../simulation/planted.ts";

const addresses = "server/net/public-address.ts";
const sender = "server/net/web-push.ts";
const desk = "server/wake-up-desk.ts";
const requests = "server/wake-up-requests.ts";

const bugs: readonly (readonly [
  name: string,
  file: string,
  from: string,
  to: string,
  test: string,
])[] = [
  [
    "an endpoint need not be https",
    addresses,
    'url?.protocol !== "https:" ||',
    "url === undefined ||",
    "web-push",
  ],
  [
    "an endpoint may carry a password",
    addresses,
    'url.username !== "" || url.password !== ""',
    "false",
    "web-push",
  ],
  [
    "an endpoint may be a private address",
    addresses,
    "if (isIP(address) !== 0) return isPublicAddress(address) ? url : undefined;",
    "",
    "web-push",
  ],
  [
    "of a name's addresses one public one suffices",
    addresses,
    "!addresses.every((",
    "!addresses.some((",
    "web-push",
  ],
  [
    "a name is not looked at when it is connected to",
    sender,
    "...(allowPrivate ? {} : { lookup: publicLookup(world.lookup) }),",
    "",
    "web-push",
  ],
  [
    "what was let in once is let in for ever",
    sender,
    'if (url === undefined) return { kind: "refused" };',
    "if (url === undefined) throw new TypeError();",
    "web-push",
  ],
  [
    "an answer is read to its end",
    sender,
    "      outgoing.destroy();",
    "      response.resume();",
    "web-push",
  ],
  [
    "an answer is waited for without an end",
    sender,
    "signal: AbortSignal.timeout(world.sendMsMax ?? sendMsMax),",
    "",
    "web-push",
  ],
  [
    "any endpoint is registered",
    desk,
    "place !== undefined && !this.#host.sender.accepts(place.endpoint)",
    "place !== undefined && place.endpoint.length > 1_024",
    "wake-ups",
  ],
  [
    "a removed device registers",
    desk,
    'if (state !== "active") return revokedError(state);',
    'if (state !== "active" && deviceKey < 0) return revokedError(state);',
    "wake-ups",
  ],
  [
    "a registration outlives its device's removal",
    "server/draft.ts",
    'if (row.state !== "active") this.#wakeNoMore(entry);',
    "",
    "wake-ups",
  ],
  [
    "a registration is written behind its group's end",
    "server/draft.ts",
    "for (const device of entry.devices.values()) this.#wakeNoMore(device);",
    "",
    "wake-ups",
  ],
  [
    "an endpoint may have any length",
    requests,
    "if (utf8(endpoint).byteLength > wakeUpEndpointBytesMax) throw invalid();",
    "",
    "wake-ups",
  ],
  [
    "who is known of is not bounded",
    "server/wake-ups.ts",
    "if (this.#known.size >= wakeUpsKnownMax) return false;",
    "",
    "wake-ups",
  ],
];

export const wakeUpBugs: readonly PlantedBug[] = bugs.map(([name, file, from, to, test]) => ({
  name: `wake-up: ${name}`,
  file,
  from,
  to,
  proof: { tests: [`relay/${test}`] },
}));
