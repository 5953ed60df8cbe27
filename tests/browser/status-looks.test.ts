/** The status page in Chromium: by keyboard, on narrow screens and in the dark. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { pairedDevices } from "../integration/support.ts";
import { skip } from "./chromium.ts";
import { faintTexts, groundOf } from "./looks.ts";
import { becomes, logIn, open } from "./support.ts";

test("everything works by keyboard alone", { skip }, async (t) => {
  const { page, token, complaints } = await open(t);
  await page.keyboard.type(token);
  await page.keyboard.press("Enter");
  await page.locator('#app[data-loaded="true"]').waitFor();
  const focused = (): Promise<string> =>
    page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
  /** Goes forward by Tab until something has the focus, and checks that it shows. */
  const tabTo = async (text: string): Promise<void> => {
    for (let i = 0; i < 30; i++) {
      await page.keyboard.press("Tab");
      if (!(await focused()).startsWith(text)) continue;
      const outline = await page.evaluate(
        () => getComputedStyle(document.activeElement ?? document.body).outlineStyle,
      );
      assert.equal(outline, "solid", `${text} shows that it has the focus`);
      return;
    }
    assert.fail(`Tab does not come to ${text}`);
  };
  await tabTo("New invite");
  await page.keyboard.press("Enter");
  await page.keyboard.type("By keyboard");
  await page.keyboard.press("Enter");
  await page.locator("#invite-code").filter({ hasText: /./ }).waitFor();
  assert.equal(await focused(), "Done");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.equal(await focused(), "New invite");
  await tabTo("Revoke By keyboard");
  await page.keyboard.press("Enter");
  // The way out has the focus: an Enter too many does nothing.
  assert.equal(await focused(), "Cancel");
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  assert.match(await focused(), /^Revoke By keyboard/);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await becomes(page, "#notice", /revoked/);
  assert.deepEqual(complaints, []);
});

for (const width of [400, 320, 768, 1280]) {
  test(`at ${width} pixels nothing lies beside the page`, { skip }, async (t) => {
    const { page, relay, token, complaints } = await open(t, { width });
    await pairedDevices(t, relay, 2);
    await logIn(page, token);
    await page.getByRole("button", { name: "Devices of first invite" }).click();
    await becomes(page, ".devices", /Online/);
    const fits = (): Promise<boolean> =>
      page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
    assert.ok(await fits());
    await page.getByRole("button", { name: "New invite" }).click();
    await page.getByRole("button", { name: "Make the invite" }).click();
    await page.getByRole("img", { name: "QR code" }).waitFor();
    const dialog = page.getByRole("dialog");
    assert.ok(await dialog.evaluate((element) => element.scrollWidth <= element.clientWidth));
    assert.ok(await fits());
    assert.deepEqual(complaints, []);
  });
}

test("in the dark it is dark, and every text can be read in both", { skip }, async (t) => {
  const { page, relay, token } = await open(t, { dark: true });
  await pairedDevices(t, relay, 1);
  await logIn(page, token);
  await page.getByRole("button", { name: "Devices of first invite" }).click();
  await becomes(page, ".devices", /Online/);
  assert.ok((await groundOf(page)) < 0.1);
  assert.deepEqual(await faintTexts(page), []);
  await page.emulateMedia({ colorScheme: "light" });
  assert.ok((await groundOf(page)) > 0.85);
  assert.deepEqual(await faintTexts(page), []);
});
