/** A group of three behind the relay that lies, and what its devices are told. */
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { type Device, founder, member } from "../client/support/devices.ts";
import { World } from "../client/support/world.ts";
import { LyingRelay } from "./lying-relay.ts";

export interface Setting {
  readonly world: World;
  readonly relay: LyingRelay;
  readonly a: Device;
  readonly b: Device;
  readonly c: Device;
}

/** Three devices of which two have written, and all have read and acknowledged. */
export async function settled(): Promise<Setting> {
  const world = new World();
  const relay = new LyingRelay(world);
  const a = await founder(relay.asKnown);
  const b = await member(a);
  const c = await member(a);
  // Everybody has acknowledged in this log: nothing is excused as of one that is new (PROTOCOL 13.6).
  await a.push("a0");
  await c.push("c0");
  await world.until(() => [a, b, c].every(({ client }) => client.status().readCursor === 2));
  for (const device of [a, b, c]) await device.take();
  await world.until(() => [a, b, c].every(({ inSync }) => inSync));
  await world.run(60_000);
  return { world, relay, a, b, c };
}

/** What a device was told is wrong: findings by kind, and errors by code. */
export function told({ integrity, errors, client }: Device): string[] {
  const { connection } = client.status();
  return [
    ...integrity.map(({ finding }) => finding),
    ...[...errors, ...("error" in connection ? [connection.error] : [])].map((error) =>
      error instanceof SyncError ? (ErrorCode[error.code] ?? "?") : error.name,
    ),
  ];
}

/** Takes, and acknowledges, what is there without waiting for a head that the relay may never reach. */
export function taking(device: Device): { texts: string[] } {
  const texts: string[] = [];
  const run = async (): Promise<void> => {
    for await (const entry of device.client.entries()) {
      texts.push(Buffer.from(entry.data).toString());
      await entry.ack();
    }
  };
  run().catch(() => undefined);
  return { texts };
}
