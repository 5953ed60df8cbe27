import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ControlRun } from "../../client/control-run.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

const byCode = (code: ErrorCode) => (error: unknown) =>
  error instanceof SyncError && error.code === code;

async function chain(): Promise<Uint8Array[]> {
  const relay = new FakeRelay(new World());
  await member(await founder(relay));
  return relay.group.control;
}

describe("control blobs that are pulled", () => {
  test("follow one another, from page to page", async () => {
    const [founding, addition] = (await chain()) as [Uint8Array, Uint8Array];
    const run = new ControlRun();
    run.add([founding]);
    run.add([addition]);
    assert.deepEqual(run.blobs, [founding, addition]);
    assert.throws(() => run.add([addition]), byCode(ErrorCode.HISTORY_ALTERED));
    assert.throws(() => new ControlRun().add([addition]), byCode(ErrorCode.HISTORY_ALTERED));
  });

  test("are only so many bytes", async () => {
    const blobs = await chain();
    const bytes = blobs.reduce((sum, { byteLength }) => sum + byteLength, 0);
    new ControlRun(undefined, bytes).add(blobs);
    assert.throws(
      () => new ControlRun(undefined, bytes - 1).add(blobs),
      byCode(ErrorCode.ENVELOPE_INVALID),
    );
  });

  test("without an end, and without a link between them, are not gathered by a joiner", async () => {
    const relay = new FakeRelay(new World());
    const { world } = relay;
    const a = await founder(relay);
    const joiner = await new Device(relay).start({ name: "joiner" });
    const [founding] = relay.group.control as [Uint8Array];
    let asked = 0;
    relay.meddler = {
      request: (session, envelope) => {
        if (envelope.body.case !== "pullControl" || session.device !== joiner.client.deviceId) {
          return undefined;
        }
        asked += 1;
        session.sendRaw(
          encodeEnvelope(Number(envelope.requestId), {
            case: "controlBlobs",
            value: { after: envelope.body.value.after, controlBlobs: [founding], done: false },
          }),
        );
        return "lost";
      },
    };
    const invite = await world.result(a.client.invite({ confirm: () => true }));
    joiner.client.join(invite.link).catch(() => undefined);
    await world.until(() => joiner.integrity.length > 0);
    assert.equal(joiner.integrity[0]?.finding, "MEMBERSHIP_ALTERED");
    assert.equal(asked, 2);
  });
});
