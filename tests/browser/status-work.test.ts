/** The status page in Chromium: figures that live, and what an operator does, with real devices. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ErrorCode, SyncError } from "../../client/index.ts";
import { content, openDevice, pairedDevices } from "../integration/support.ts";
import { skip } from "./chromium.ts";
import { becomes, logIn, open } from "./support.ts";

test("figures move when a device pushes, and the groups show it", { skip }, async (t) => {
  const { page, relay, token, complaints } = await open(t);
  await logIn(page, token);
  await becomes(page, "#groups-none", /No group yet/);
  assert.equal(await page.locator("#sessions").textContent(), "0");
  const [first, second] = await pairedDevices(t, relay, 2);
  assert.ok(first !== undefined && second !== undefined);
  await becomes(page, "#sessions", /^2$/);
  await becomes(page, "#groups", /2 of 2/);
  await first.client.pushMany(Array.from({ length: 300 }, () => ({ data: content(1_000) })));
  await first.client.flush();
  await becomes(page, "#stored", /^[1-9]/);
  await becomes(page, "#store-blobs", /^300$/);
  await becomes(page, "#median", /ms|s$/);
  const graph = page.locator("#chart-traffic");
  assert.match((await graph.getAttribute("aria-label")) ?? "", /Blobs pushed and delivered/);
  // The lines are there: the canvas has pixels of the page's own colour.
  const painted = await page.locator("#chart-sessions canvas").evaluate((canvas) => {
    const { width, height } = canvas as HTMLCanvasElement;
    const { data } = (canvas as HTMLCanvasElement)
      .getContext("2d")
      ?.getImageData(0, 0, width, height) ?? { data: [] };
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 1] === 118 && data[i] === 15 && data[i + 3] === 255) count += 1;
    }
    return count;
  });
  assert.ok(painted > 5, `${painted} pixels`);
  await second.client.close();
  await becomes(page, "#groups", /1 of 2/);
  assert.deepEqual(complaints, []);
});

test("an invite is made, shown once, founds a group, and another is revoked", {
  skip,
}, async (t) => {
  const { page, relay, token, complaints } = await open(t);
  await logIn(page, token);
  const make = async (label: string): Promise<string> => {
    await page.getByRole("button", { name: "New invite" }).click();
    await page.getByLabel("Label", { exact: true }).fill(label);
    await page.getByLabel("Quota", { exact: true }).fill("2 MiB");
    await page.getByRole("button", { name: "Make the invite" }).click();
    await page.getByRole("img", { name: "QR code" }).waitFor();
    const code = (await page.locator("#invite-code").textContent()) ?? "";
    assert.match(code, /^[\w-]{22}$/);
    const command = (await page.locator("#invite-command").textContent()) ?? "";
    assert.ok(command.includes(relay.address) && command.includes(code));
    await page.getByRole("button", { name: "Done" }).click();
    return code;
  };
  const code = await make("<b>Ada</b> & co");
  // Told once: nothing of the code is left in the page.
  assert.ok(!(await page.content()).includes(code));
  assert.equal(await page.locator("#invites b").count(), 0);
  await becomes(page, "#invites", /<b>Ada<\/b> & co/);
  const device = await openDevice(t, { relay: relay.address });
  await device.client.createGroup({ invite: code });
  await becomes(page, "#groups", /<b>Ada<\/b> & co/);
  await becomes(page, "#groups", /of 2 MiB/);

  const second = await make("Bob");
  await page.getByRole("button", { name: "Revoke Bob" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Revoke Bob" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("button", { name: "Revoke Bob" }).waitFor({ state: "hidden" });
  const other = await openDevice(t, { relay: relay.address });
  await assert.rejects(
    other.client.createGroup({ invite: second }),
    (error) => error instanceof SyncError && error.code === ErrorCode.INVITE_INVALID,
  );
  assert.deepEqual(complaints, []);
});

test("a mistake in an invite is told where it is", { skip }, async (t) => {
  const { page, token } = await open(t);
  await logIn(page, token);
  await page.getByRole("button", { name: "New invite" }).click();
  await page.getByLabel("Quota", { exact: true }).fill("plenty");
  await page.keyboard.press("Enter");
  await becomes(page, "#invite-problem", /500 MiB/);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "invite-quota");
  await page.getByLabel("Quota", { exact: true }).fill("1 KiB");
  await page.keyboard.press("Enter");
  await becomes(page, "#invite-problem", /at least 64 KiB/);
});

test("a device is disconnected and refused after a question, and served again", {
  skip,
}, async (t) => {
  const { page, relay, token, complaints } = await open(t);
  const [device] = await pairedDevices(t, relay, 1);
  assert.ok(device !== undefined);
  await logIn(page, token);
  await page.getByRole("button", { name: "Devices of first invite" }).click();
  const yes = async (name: string): Promise<void> => {
    await page.locator(".devices").getByRole("button", { name }).click();
    await page.getByRole("dialog").getByRole("button", { name, exact: true }).click();
  };
  await yes("Disconnect");
  await becomes(page, "#notice", /is disconnected/);
  await yes("Refuse");
  await becomes(page, ".devices", /Refused by the operator/);
  await becomes(page, ".devices", /Away/);
  await yes("Serve again");
  await page.locator(".devices").getByRole("button", { name: "Refuse" }).waitFor();
  assert.deepEqual(complaints, []);
});
