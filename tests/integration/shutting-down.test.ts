/** A relay that shuts down while devices are connected, some of which never answer its close. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Listener } from "../../server/net/listener.ts";
import { keyPairOf } from "../../wire/channel.ts";
import { closeCodeOf, ErrorCode, errorRow } from "../../wire/errors.ts";
import { parseRelayAddress } from "../../wire/relay-address.ts";
import { bytes, foundingOf, groupId } from "../support/devices.ts";
import { RelayWorldUnderTest } from "../support/relay-world.ts";
import { deviceKeys, hello, SocketDevice } from "../support/socket-device.ts";
import { testFolder } from "./support.ts";

const draining = {
  code: closeCodeOf(ErrorCode.DRAINING),
  reason: errorRow(ErrorCode.DRAINING).message,
};

/** Three devices that answer a close and three that read no more, all of one group; one in its handshake. */
async function everybody(port: number) {
  const seeds = [1, 2, 3, 4, 5, 6];
  const ids = seeds.map((seed) => deviceKeys(seed).publicKey);
  const founder = await new SocketDevice(port, 1).handshake(hello());
  await founder.envelope("welcome");
  const { change } = foundingOf(ids[0] as Uint8Array, ids, { groupId });
  founder.send({ id: 1, body: { case: "changeMembership", value: change } });
  await founder.envelope("membershipAck");
  founder.socket.close();
  await founder.closed;
  const devices: SocketDevice[] = [];
  for (const seed of seeds) {
    const device = await new SocketDevice(port, seed).handshake(hello(groupId));
    await device.envelope("welcome");
    devices.push(device);
  }
  const silent = devices.slice(3);
  for (const { socket } of silent) socket.pause();
  const early = await new SocketDevice(port, 7).opened();
  return { answering: [...devices.slice(0, 3), early], silent };
}

/** What was on its way to a device that read no more is still there: it was told, and then cut off. */
async function endings(devices: readonly SocketDevice[]) {
  for (const { socket } of devices) socket.resume();
  return await Promise.all(devices.map(({ closed }) => closed));
}

test("every connection ends, whether its peer answers or not, and what was seen of all is one commit", async () => {
  const { relay } = new RelayWorldUnderTest({
    options: { listen: "127.0.0.1:0" },
    limits: { addressConnectionsPerMin: 1_000, addressHandshakesMax: 100 },
  });
  const listener = new Listener({
    relay,
    identity: keyPairOf(bytes(32, 1)),
    health: () => ({ status: "ok", version: "test" }),
    onRefused: () => undefined,
  });
  const { answering, silent } = await everybody(await listener.listen());
  assert.equal(listener.admission.sessions, 6);
  assert.equal(listener.admission.handshakes, 1);
  const before = relay.counters.commits;
  listener.stopAccepting();
  await relay.drain(5_000);
  assert.equal(relay.counters.commits - before, 1);
  await listener.close(200);
  // No socket is left on this side, though three peers have not read a byte of it.
  assert.equal(listener.admission.sessions, 0);
  assert.equal(listener.admission.handshakes, 0);
  for (const ending of await endings([...answering, ...silent])) assert.deepEqual(ending, draining);
});

test("SIGTERM ends the process with 0 while devices are connected that never answer", async (t) => {
  const program = fileURLToPath(new URL("../../cli/relay/main.ts", import.meta.url));
  const settings =
    "--listen 127.0.0.1:0 --listen-admin 127.0.0.1:0 --founding open --log-level error";
  const child = spawn(
    process.execPath,
    ["--import", "tsx", program, "serve", "--data", await testFolder(t), ...settings.split(" ")],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => child.kill("SIGKILL"));
  const exited = once(child, "exit");
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  const { answering, silent } = await everybody(Number(new URL(parseRelayAddress(line).url).port));
  child.kill("SIGTERM");
  assert.deepEqual(await exited, [0, null]);
  for (const ending of await endings([...answering, ...silent])) assert.deepEqual(ending, draining);
});
