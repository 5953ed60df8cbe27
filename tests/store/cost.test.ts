/**
 * What a push costs, in counts that a machine's mood does not move: commits, envelopes, and bytes on
 * the wire and on disk. A bound here is broken by a change, never by noise.
 */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { databaseName, openSqliteStore } from "../../server/store/sqlite-store.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { temporaryFolder } from "../store/support/folders.ts";
import { ChainDevice, foundingOf, groupId, pushOf } from "../support/devices.ts";
import { RelayWorldUnderTest } from "../support/relay-world.ts";

const pushes = 2_000;
/** A sealed change of one byte, with room to spare. */
const bodyBytes = 96;

/** Lets the disk work until something holds. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise<void>((resolve) => setImmediate(resolve));
}

test("pushes of one turn share a commit, and a small change takes at most 640 bytes on disk", async (t) => {
  const folder = await temporaryFolder(t);
  const store = await openSqliteStore({ folder });
  let commits = 0;
  const counted = new Proxy(store, {
    get(target, name) {
      if (name === "commit") commits += 1;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
  const world = new RelayWorldUnderTest({
    disk: counted,
    limits: { pushesBurst: pushes, pushesPerS: pushes },
  });
  const device = new ChainDevice(1);
  const lobby = world.attach(device.id);
  await until(() => lobby.port.sent.length > 0);
  const founding = BigInt(
    lobby.ask({
      case: "changeMembership",
      value: foundingOf(device.id, [device.id]).change,
    }),
  );
  await until(() => lobby.port.sent.some(({ requestId }) => requestId === founding));
  const peer = world.attach(device.id, { groupId });
  await until(() => peer.port.sent.length > 0);
  const database = join(folder, databaseName);
  // From here on it is sent what is committed.
  const pull = BigInt(peer.ask({ case: "pull", value: { windowBytes: 1_000_000 } }));
  await until(() => peer.port.sent.some(({ requestId }) => requestId === pull));
  peer.port.take();
  commits = 0;

  const made = Array.from({ length: pushes }, () => device.next({ bodyBytes }));
  for (const blob of made) peer.push([blob]);
  let acks = 0;
  let delivers = 0;
  await until(() => {
    for (const { body } of peer.port.take()) {
      if (body.case === "pushAck") acks += 1;
      else if (body.case === "deliver") delivers += 1;
    }
    return acks === pushes && delivers > 0;
  });
  assert.equal(commits, 1, "what arrives in one turn is one commit");
  assert.equal(delivers, 1, "what a device pushed itself is told once for a page, not for a push");

  const first = made[0];
  assert(first);
  const request = encodeEnvelope(1, { case: "push", value: pushOf([first]) });
  assert(request.byteLength - bodyBytes <= 224, `${request.byteLength - bodyBytes} on the wire`);

  await store.close();
  const { size } = await stat(database);
  const each = size / pushes;
  assert(each <= 640, `${each} bytes on disk for each`);
});
