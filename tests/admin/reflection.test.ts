/** What tools ask: what is served, and whether it is well. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../gen/grpc/health/v1/health_pb.ts";
import {
  ServerReflection,
  type ServerReflectionRequestSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.ts";
import { SideWorld } from "./support.ts";

type Question = MessageInitShape<typeof ServerReflectionRequestSchema>;

async function ask(side: SideWorld, ...questions: Question[]) {
  async function* requests() {
    yield* questions;
  }
  const answers = [];
  const client = side.client(ServerReflection, "grpc", side.tokens.read);
  for await (const answer of client.serverReflectionInfo(requests())) {
    answers.push(answer.messageResponse);
  }
  return answers;
}

test("reflection lists every service, and each one's file comes with all that it imports", async (t) => {
  const side = await SideWorld.open(t);
  const [list] = await ask(side, { messageRequest: { case: "listServices", value: "" } });
  assert(list?.case === "listServicesResponse");
  const names = list.value.service.map((service) => service.name);
  assert.deepEqual(names.toSorted(), [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "syncrelay.admin.v1.BackupService",
    "syncrelay.admin.v1.DeviceService",
    "syncrelay.admin.v1.GroupService",
    "syncrelay.admin.v1.HealthService",
    "syncrelay.admin.v1.InviteService",
    "syncrelay.admin.v1.MaintenanceService",
    "syncrelay.admin.v1.MetricsService",
  ]);
  for (const name of names) {
    const [found] = await ask(side, {
      messageRequest: { case: "fileContainingSymbol", value: name },
    });
    assert(found?.case === "fileDescriptorResponse", name);
    const files = found.value.fileDescriptorProto.map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
    const known = new Set(files.map((file) => file.name));
    for (const file of files) for (const name of file.dependency) assert(known.has(name), name);
    assert.equal(`${files[0]?.package}.${files[0]?.service[0]?.name}`, name);
  }
});

test("reflection finds methods, fields and files by name, and says what it does not find", async (t) => {
  const side = await SideWorld.open(t);
  const answers = await ask(
    side,
    {
      messageRequest: {
        case: "fileContainingSymbol",
        value: "syncrelay.admin.v1.GroupService.Delete",
      },
    },
    { messageRequest: { case: "fileByFilename", value: "syncrelay/admin/v1/device.proto" } },
    { messageRequest: { case: "fileByFilename", value: "nothing.proto" } },
    { messageRequest: { case: "fileContainingSymbol", value: "nothing.At.All" } },
    {
      messageRequest: {
        case: "allExtensionNumbersOfType",
        value: "syncrelay.admin.v1.Group",
      },
    },
    {},
  );
  assert.deepEqual(
    answers.map((answer) => answer.case),
    [
      "fileDescriptorResponse",
      "fileDescriptorResponse",
      "errorResponse",
      "errorResponse",
      "allExtensionNumbersResponse",
      "errorResponse",
    ],
  );
});

test("grpc.health.v1 answers without a token, for the whole and for each service", async (t) => {
  const side = await SideWorld.open(t);
  const client = side.client(Health, "grpc", "none");
  for (const service of ["", "syncrelay.admin.v1.GroupService", "grpc.health.v1.Health"]) {
    assert.equal((await client.check({ service })).status, ServingStatus.SERVING);
  }
  await assert.rejects(client.check({ service: "nothing" }), (error) => {
    return error instanceof ConnectError && error.code === Code.NotFound;
  });
  for await (const { status } of client.watch({ service: "nothing" })) {
    assert.equal(status, ServingStatus.SERVICE_UNKNOWN);
    break;
  }
  const draining = side.world.relay.drain(0);
  assert.equal((await client.check({})).status, ServingStatus.NOT_SERVING);
  await draining;
});
