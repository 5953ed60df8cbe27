/**
 * What must hold after a run, by what the apps kept themselves: everything whose `push` resolved is on
 * every device exactly once, whole, in the order of its sender, and nothing else is.
 */
import type { Device } from "./device-process.ts";

/** What a scenario makes right that is wrong otherwise. */
export interface Excuses {
  /** Findings that must be there; without it there must be none. */
  readonly integrity?: RegExp;
  /** The app may be told of gaps. */
  readonly gaps?: boolean;
  /** Entries that may be missing, by name. */
  readonly missing?: (name: string, device: Device) => boolean;
  /** The log changed or a state was taken over: devices may differ in order between senders, and in cursors. */
  readonly anyOrder?: boolean;
}

export interface Counted {
  /** Entries whose push resolved. */
  readonly queued: number;
  /** Those that the app knew to be on the relay's disk. */
  readonly acknowledged: number;
  /** Entries that were handed out, on all devices. */
  readonly applied: number;
}

export function describeCounted({ queued, acknowledged, applied }: Counted): string {
  return `${queued} pushed, ${acknowledged} seen acknowledged, ${applied} applied, 0 lost, 0 twice`;
}

interface Queued {
  readonly name: string;
  readonly device: Device;
  readonly seq: number;
}

/** Everything that is wrong, or what was counted. */
export function judge(
  devices: readonly Device[],
  excuses: Excuses,
): { readonly wrong: string[]; readonly counted: Counted } {
  const wrong: string[] = [];
  const queued = new Map<string, Queued>();
  const begun = new Set<string>();
  const refused = new Set<string>();
  const cursors = new Map<string, number>();
  let acknowledged = 0;
  for (const device of devices) {
    for (const line of device.pushes()) {
      if (line[0] === "begin") for (const name of line[1]) begun.add(name);
      else if (line[0] === "refused") for (const name of line[1]) refused.add(name);
      else if (line[0] === "queued") {
        for (const [name, seq, blobId] of line[1]) queued.set(blobId, { name, device, seq });
      } else {
        acknowledged += line[1].length;
        for (const [blobId, cursor] of line[1]) cursors.set(blobId, cursor);
      }
    }
    for (const [kind, text] of device.events()) {
      if (kind === "defect") wrong.push(`${device.name}: ${text}`);
      if (kind === "gap" && excuses.gaps !== true) wrong.push(`${device.name}: gap ${text}`);
      if (kind === "integrity" && excuses.integrity?.test(text) !== true) {
        wrong.push(`${device.name}: integrity ${text}`);
      }
    }
  }
  let first: { readonly name: string; readonly ids: readonly string[] } | undefined;
  let applied = 0;
  for (const device of devices) {
    if (!device.member) continue;
    const ids: string[] = [];
    const seen = new Set<string>();
    const places = new Map<string, number>();
    for (const line of device.applied()) {
      if (line[0] !== "entry") continue;
      const [, , cursor, sender, seq, blobId, name] = line;
      ids.push(blobId);
      if (seen.has(blobId)) wrong.push(`${device.name}: ${name} twice`);
      seen.add(blobId);
      const before = places.get(sender) ?? 0;
      if (seq <= before) wrong.push(`${device.name}: ${name}: seq ${seq} behind ${before}`);
      places.set(sender, seq);
      const known = queued.get(blobId);
      if (known === undefined ? !begun.has(name) : known.name !== name) {
        wrong.push(`${device.name}: ${name} (${blobId}) was never pushed`);
      }
      if (name !== "" && refused.has(name)) wrong.push(`${device.name}: ${name} was refused`);
      const told = cursors.get(blobId) ?? 0;
      if (excuses.anyOrder !== true && told > 0 && told !== cursor) {
        wrong.push(`${device.name}: ${name} at cursor ${cursor}, acknowledged at ${told}`);
      }
    }
    applied += ids.length;
    for (const [blobId, { name, device: by }] of queued) {
      if (seen.has(blobId) || excuses.missing?.(name, by) === true) continue;
      const which = cursors.has(blobId) ? "acknowledged" : "queued";
      wrong.push(`${device.name} lacks ${name} (${which})`);
    }
    const compared = excuses.anyOrder === true ? ids.toSorted() : ids;
    if (first === undefined) first = { name: device.name, ids: compared };
    else if (first.ids.join() !== compared.join()) {
      const at = first.ids.findIndex((id, i) => id !== compared[i]);
      wrong.push(
        `${device.name} and ${first.name} differ: ${ids.length} and ${first.ids.length} entries, first at ${at}`,
      );
    }
  }
  return { wrong, counted: { queued: queued.size, acknowledged, applied } };
}
