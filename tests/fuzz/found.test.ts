/** What fuzzing found, by name. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { decodeDevice } from "../../client/disk.ts";
import { MemoryStore, StateStoreError, SyncClient } from "../../client/index.ts";
import {
  DeviceState_Membership,
  DeviceStateSchema,
} from "../../gen/syncrelay/state/v1/state_pb.ts";
import { World } from "../client/support/world.ts";
import { bytes } from "../support/devices.ts";

function stateOf(relayAddress: string, membership: DeviceState_Membership): Uint8Array {
  return toBinary(DeviceStateSchema, create(DeviceStateSchema, { relayAddress, membership }));
}

const isDamaged = (error: unknown): boolean =>
  error instanceof StateStoreError && error.problem === "damaged";

test("a device's state whose relay address is none is damaged, and no defect", async () => {
  const { UNSPECIFIED, MEMBER } = DeviceState_Membership;
  assert.equal(decodeDevice(stateOf("", UNSPECIFIED)).relayAddress, "");
  for (const address of ["", "ws://relay.test/", "ws://relay.test/#short", "relay"]) {
    assert.throws(() => decodeDevice(stateOf(address, MEMBER)), isDamaged, address);
  }
  const store = new MemoryStore();
  await store.transaction((tx) => {
    tx.put("device", "seed", bytes(32, 1));
    tx.put("device", "state", stateOf("ws://relay.test/#short", MEMBER));
  });
  await assert.rejects(SyncClient.open({ store, host: new World().host() }), isDamaged);
});
