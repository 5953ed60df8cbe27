/** The status page in Chromium: who gets in, and what happens when the relay or the token is gone. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { pairedDevices } from "../integration/support.ts";
import { skip } from "./chromium.ts";
import { becomes, logIn, open } from "./support.ts";

test("a token lets one in, stays out of addresses, and is forgotten by logging out", {
  skip,
}, async (t) => {
  const { page, token, complaints, relay } = await open(t);
  const urls: string[] = [];
  page.on("request", (request) => urls.push(request.url()));
  assert.equal(await page.evaluate(() => document.activeElement?.id), "token");
  await logIn(page, token);
  await becomes(page, "#status", /Working/);
  assert.equal(await page.locator("#address").textContent(), relay.address);
  // The tab stays in when it is loaded again.
  await page.reload();
  await page.locator('#app[data-loaded="true"]').waitFor();
  assert.ok(urls.length > 10);
  assert.ok(urls.every((url) => !url.includes(token)));
  assert.ok(!page.url().includes(token));
  assert.deepEqual(await page.context().cookies(), []);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByLabel("Token").waitFor();
  assert.equal(await page.getByLabel("Token").inputValue(), "");
  assert.equal(await page.evaluate(() => sessionStorage.length + localStorage.length), 0);
  await page.reload();
  await page.getByLabel("Token").waitFor();
  assert.deepEqual(complaints, []);
});

test("a wrong token is told so, and soon that it is too many", { skip }, async (t) => {
  const { page, token } = await open(t);
  const enter = async (text: string): Promise<string> => {
    await page.getByLabel("Token").fill(text);
    const answered = page.waitForResponse(/HealthService/);
    await page.keyboard.press("Enter");
    await answered;
    await page.getByRole("button", { name: "Show the relay", disabled: false }).waitFor();
    return (await page.locator("#login-problem").textContent()) ?? "";
  };
  assert.match(await enter("wrong"), /does not hold/);
  assert.equal(await page.getByLabel("Token").getAttribute("aria-invalid"), "true");
  for (let i = 0; i < 9; i++) await enter(`wrong${i}`);
  assert.match(await enter("wrong"), /Too many wrong tokens/);
  await logIn(page, token);
});

test("the read token sees everything and is offered nothing that changes it", {
  skip,
}, async (t) => {
  const { page, relay, token, complaints } = await open(t, { scope: "read" });
  await pairedDevices(t, relay, 1);
  await logIn(page, token);
  await becomes(page, "#scope", /Read only/);
  await page.getByRole("button", { name: "Devices of first invite" }).click();
  await becomes(page, ".devices", /Online/);
  for (const name of ["New invite", "Revoke", "Suspend", "Disconnect", "Refuse"]) {
    assert.equal(await page.getByRole("button", { name }).count(), 0, name);
  }
  assert.deepEqual(complaints, []);
});

test("a relay that is gone is told, and so is one that is back", { skip }, async (t) => {
  const { page, relay, token } = await open(t);
  await logIn(page, token);
  await relay.stop();
  await becomes(page, "#banner:visible", /does not answer|shutting down/);
  assert.equal(await page.locator("#app").getAttribute("data-stale"), "true");
  await relay.start();
  await page.getByRole("button", { name: "Try now" }).click();
  await page.locator("#banner").waitFor({ state: "hidden" });
  await becomes(page, "#status", /Working/);
  // A token that was replaced ends the visit, with a word on why.
  await writeFile(join(relay.data, "admin-token"), `${"x".repeat(43)}\n`);
  await becomes(page, "#login-problem", /holds no more/);
});
