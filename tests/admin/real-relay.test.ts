/** An operator and real devices: sockets, SQLite, and the client library. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Status, SyncClient } from "../../client/index.ts";
import { DeviceService } from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { InviteService } from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { readToken } from "../../server/admin/tokens.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { content, openDevice, TestRelay } from "../integration/support.ts";

/** Resolves when a device's status says so. */
function becomes(client: SyncClient, holds: (status: Status) => boolean): Promise<void> {
  return new Promise((resolve) => {
    const off = client.on("status", (status) => {
      if (!holds(status)) return;
      off();
      resolve();
    });
    if (holds(client.status())) {
      off();
      resolve();
    }
  });
}

test("an operator invites, sets quotas, suspends, refuses and deletes, and real devices follow", async (t) => {
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0" });
  const token = await readToken(relay.data, "admin");
  const url = relay.running.adminUrl ?? "";
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token ?? ""}`);
    return next(request);
  };
  const sessionManager = new Http2SessionManager(url);
  t.after(() => sessionManager.abort());
  const transport = createGrpcTransport({
    baseUrl: url,
    interceptors: [authorize],
    sessionManager,
  });
  const invites = createClient(InviteService, transport);
  const groups = createClient(GroupService, transport);
  const devices = createClient(DeviceService, transport);

  const revoked = await invites.create({});
  await invites.revoke({ inviteId: revoked.invite?.inviteId ?? "" });
  const device = await openDevice(t, { relay: relay.address });
  const { client } = device;
  await assert.rejects(client.createGroup({ invite: revoked.code }), (error) => {
    return error instanceof SyncError && error.code === ErrorCode.INVITE_INVALID;
  });
  const { code } = await invites.create({ label: "home", quotaBytes: 1_000_000n });
  await client.createGroup({ invite: code });
  await client.pushMany(Array.from({ length: 20 }, () => ({ data: content(10_000) })));
  await client.flush();
  const [group] = (await groups.list({})).groups;
  assert(group !== undefined);
  assert.deepEqual(
    [group.label, group.quotaBytes, group.blobs, group.devices, group.devicesOnline],
    ["home", 1_000_000n, 20n, 1, 1],
  );
  const { groupId } = group;

  await groups.suspend({ groupId });
  await client.push(content(10));
  await becomes(client, (status) => status.pushHeld?.code === ErrorCode.READ_ONLY);
  await groups.suspend({ groupId, lift: true });
  await becomes(client, (status) => status.queued === 0 && status.durableSeq === 21);

  // Full, then given more: what waited goes on by itself.
  await groups.setQuota({ groupId, quotaBytes: 230_000n });
  await client.push(content(50_000));
  await becomes(client, (status) => status.pushHeld?.code === ErrorCode.QUOTA_EXCEEDED);
  await groups.setQuota({ groupId, quotaBytes: 10_000_000n });
  await becomes(client, (status) => status.queued === 0 && status.durableSeq === 22);

  const deviceId = client.deviceId;
  await devices.refuse({ groupId, deviceId });
  await becomes(client, (status) => status.connection.state !== "online");
  const [refused] = (await devices.list({ groupId })).devices;
  assert.equal(refused?.online, false);
  await devices.refuse({ groupId, deviceId, lift: true });

  const { confirmation } = await groups.delete({ groupId });
  await groups.delete({ groupId, confirmation });
  assert.deepEqual((await groups.list({})).groups, []);
});
