/** Snapshots that the real relay, with a liar inside, shows otherwise than a member made them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { ListApp, listApps } from "../client/support/list-app.ts";
import { World } from "../client/support/world.ts";
import { type Lie, LyingRelay } from "./lying-relay.ts";
import { told } from "./setting.ts";

const flipped = (bytes: Uint8Array, at: number): Uint8Array =>
  bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));

const aboutManifest =
  (change: (manifest: Uint8Array) => Uint8Array): Lie =>
  (body) => {
    if (body.case === "snapshot" && body.value.manifest.byteLength > 0) {
      body.value.manifest = change(body.value.manifest);
    }
    return [body];
  };

const forgeries: readonly { readonly what: string; readonly lie: (world: World) => Lie }[] = [
  {
    what: "that no member signed",
    lie: () => (body) => {
      if (body.case === "snapshot") body.value.signature = flipped(body.value.signature, 3);
      return [body];
    },
  },
  {
    what: "as that of another device",
    lie: (world) => {
      const author = world.random(32);
      return aboutManifest((bytes) => {
        const manifest = fromBinary(SnapshotManifestSchema, bytes);
        return toBinary(SnapshotManifestSchema, { ...manifest, author });
      });
    },
  },
  {
    what: "with other claims",
    lie: () =>
      aboutManifest((bytes) => {
        const manifest = fromBinary(SnapshotManifestSchema, bytes);
        const sealedClaims = flipped(manifest.sealedClaims, 70);
        return toBinary(SnapshotManifestSchema, { ...manifest, sealedClaims });
      }),
  },
  {
    what: "with another content",
    lie: () => (body) => {
      if (body.case === "objectData") body.value.data = flipped(body.value.data, 20);
      return [body];
    },
  },
  {
    what: "without its content",
    lie: () => (body) => {
      if (body.case === "objectData") {
        body.value.data = new Uint8Array(0);
        body.value.sizeBytes = 0n;
        body.value.done = true;
      }
      return [body];
    },
  },
];

describe("SECURITY 6: a relay that forges a snapshot", () => {
  for (const { what, lie } of forgeries) {
    test(`it shows one ${what}: SNAPSHOT_FORGED, nothing of it is applied, and the right one makes it good`, async () => {
      const world = new World();
      const relay = new LyingRelay(world);
      const apps = await listApps(relay.asKnown, 2);
      const [a, b] = apps as [ListApp, ListApp];
      await a.device.push("one", "two", "three");
      await b.device.push("four");
      await world.until(() => apps.every(({ list, device }) => list.length === 4 && device.inSync));
      await world.result(a.client.makeSnapshot());
      // The other one confirms it, and the relay trims what it replaces.
      await world.run(60_000);
      const late = await new ListApp(relay.asKnown).start({ name: "late" });
      relay.lies.set(late.client.deviceId, lie(world));
      await late.joins(a);
      await world.until(() => late.device.integrity.length > 0);
      await world.run(60_000);
      assert.ok(told(late.device).includes("SNAPSHOT_FORGED"), told(late.device).join());
      assert.deepEqual(late.list, []);
      assert.deepEqual(late.restored, []);
      assert.equal(late.device.inSync, false);
      // The truth again.
      relay.lies.clear();
      await late.restart();
      await world.until(() => late.list.length === 4 && late.device.inSync);
      assert.deepEqual(late.list, a.list);
      assert.equal(late.restored.length, 1);
      assert.deepEqual(
        late.client.findings().map(({ finding, state }) => [finding, state]),
        [["SNAPSHOT_FORGED", "healed"]],
      );
      for (const app of apps) assert.deepEqual(app.device.integrity, []);
      assert.deepEqual(relay.defects, []);
    });
  }
});
