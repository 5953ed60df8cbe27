/** Whatever is asked of the side API: an answer or a documented refusal, never a defect. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { DeviceService } from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { HealthService } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { InviteService } from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { MetricsService } from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { idText } from "../../wire/ids.ts";
import { ChainDevice, groupId } from "../support/devices.ts";
import { random, SideWorld } from "./support.ts";

const methods = [InviteService, GroupService, DeviceService, HealthService, MetricsService].flatMap(
  (service) =>
    service.methods
      .filter((method) => method.methodKind === "unary")
      .map((method) => `/${service.typeName}/${method.name}`),
);

/** Values near those that mean something. */
const value = fc.oneof(
  fc.constantFrom(idText(groupId), idText(new ChainDevice(1).id), toBase64url(random(9)), ""),
  fc.string({ maxLength: 60 }),
  fc.integer(),
  fc.boolean(),
  fc.bigInt({ min: -1n, max: 1n << 65n }).map(String),
  fc.constantFrom(null, [], {}),
);
const fields = fc.constantFrom(
  ..."groupId deviceId inviteId quotaBytes label expiresInS code kind lift confirmation pageSize pageToken intervalMs nothing".split(
    " ",
  ),
);
const json = fc.dictionary(fields, value, { maxKeys: 4 }).map((body) => JSON.stringify(body));

test("requests of any content end in an answer or a documented refusal", async (t) => {
  const side = await SideWorld.open(t);
  await side.world.found(new ChainDevice(1), new ChainDevice(2));
  const documented = new Set([200, 400, 403, 404, 409, 415, 429, 503]);
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...methods),
      fc.oneof(
        { weight: 5, arbitrary: json.map((body) => ({ body, type: "application/json" })) },
        fc.uint8Array({ maxLength: 80 }).map((body) => ({ body, type: "application/proto" })),
        fc.string({ maxLength: 40 }).map((body) => ({ body, type: "application/json" })),
        fc.constant({ body: "{}", type: "text/plain" }),
      ),
      async (path, { body, type }) => {
        const response = await side.fetch(path, {
          method: "POST",
          body: body as BodyInit,
          headers: { "content-type": type },
        });
        const text = await response.text();
        // What does not decode at all never reaches a handler, and Connect calls that internal.
        const undecodable = type === "application/proto" && response.status === 500;
        assert(
          undecodable || documented.has(response.status),
          `${path} ${response.status} ${text}`,
        );
        // Nothing of the machine: no stack, no path, no SQL.
        assert.doesNotMatch(text, /node:|\.ts|SELECT|\/work|\/tmp/);
      },
    ),
    { numRuns: 600 },
  );
  assert.deepEqual(side.world.defects, []);
});

test("paths of any shape are not there, and lead nowhere", async (t) => {
  const side = await SideWorld.open(t);
  const part = fc.constantFrom(
    "..",
    ".",
    "%2e%2e",
    "etc",
    "passwd",
    "syncrelay.admin.v1.",
    "\\",
    "~",
    "metrics;",
  );
  await fc.assert(
    fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 5 }), async (parts) => {
      // Deep enough that no way up ends at the status page.
      const response = await side.fetch(`/x/x/x/x/x/x/${parts.join("/")}`);
      await response.arrayBuffer();
      assert(response.status === 404, `${parts.join("/")} ${response.status}`);
    }),
    { numRuns: 60 },
  );
  assert.deepEqual(side.world.defects, []);
});
