/** The example app by keyboard, on narrow and wide screens, light and dark. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { today } from "../../examples/cashtable/src/ledger.ts";
import { TestRelay } from "../integration/support.ts";
import { Someone, serveApp } from "./cashtable-support.ts";
import { skip } from "./chromium.ts";
import { faintTexts, groundOf } from "./looks.ts";

const day = (number: number): string => `${today().slice(0, 7)}-${String(number).padStart(2, "0")}`;

test("a book on this device alone, by keyboard", { skip }, async (t) => {
  const someone = await Someone.arrives(t, await serveApp(t));
  const { page } = someone;
  await page.getByText("Sync it with other devices").click();
  await someone.button("Start").click();
  await page.getByText("yet.").waitFor();
  await someone.becomes("This device only");
  await page.keyboard.press("n");
  assert.match(
    await page.evaluate(() => document.activeElement?.getAttribute("name") ?? ""),
    /amount/,
  );
  await page.keyboard.type("4.20");
  await page.keyboard.press("Tab");
  await page.keyboard.type("Kiosk");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  // Loaded again, it is there; nothing but this device has it.
  await page.reload();
  const row = someone.button("Kiosk");
  await row.waitFor();
  // By the keyboard alone into what was entered, and out again.
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    if ((await page.evaluate(() => document.activeElement?.textContent)) === "Kiosk") break;
  }
  const outline = await row.evaluate((element) => getComputedStyle(element).outlineStyle);
  assert.equal(outline, "solid");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  await page.keyboard.press("/");
  await page.keyboard.type("kio");
  await page.getByRole("heading", { name: "Search" }).waitFor();
  assert.equal(await page.locator(".book tbody tr").count(), 1);
  await page.keyboard.type("x");
  await page.getByText("Nothing is found.").waitFor();
  // Another tab is the same device: what is entered in one is in the other, with no relay between them.
  const other = await someone.context.newPage();
  await other.goto(someone.address);
  await other.getByRole("button", { name: "Kiosk" }).click();
  await other.getByLabel("Payee").fill("Kiosk at the station");
  await other.getByRole("button", { name: "Save" }).click();
  await page.getByLabel("Search", { exact: true }).fill("");
  await someone.button("Kiosk at the station").waitFor();
  assert.deepEqual(someone.complaints, []);
});

test("a mistake is told where it is", { skip }, async (t) => {
  const someone = await Someone.arrives(t, await serveApp(t));
  const { page } = someone;
  await page.getByLabel("Relay address").fill("ws://127.0.0.1:1/#nothing");
  await someone.button("Start").click();
  await page.getByRole("alert").filter({ hasText: /./ }).waitFor();
  await page.getByText("Sync it with other devices").click();
  await someone.button("Start").click();
  await page.keyboard.press("n");
  await page.getByLabel(/Amount/).fill("a lot");
  await page.getByLabel("Payee").fill("Kiosk");
  await someone.button("Save").click();
  await page.getByText("An amount looks like 12.50.").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.id), "amount");
});

test("on every screen nothing lies beside the page, and every text can be read, in the light and in the dark", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const someone = await Someone.arrives(t, await serveApp(t));
  const { page } = someone;
  const look = async (what: string, widths = [400, 1280]): Promise<void> => {
    for (const width of widths) {
      await page.setViewportSize({ width, height: 860 });
      const beside = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(beside <= 0, `${what} at ${width}: ${beside} pixels beside the page`);
    }
    for (const colorScheme of ["dark", "light"] as const) {
      await page.emulateMedia({ colorScheme });
      const ground = await groundOf(page);
      assert.ok(colorScheme === "dark" ? ground < 0.12 : ground > 0.85, `${what}: ${ground}`);
      assert.deepEqual(await faintTexts(page), [], `${what}, ${colorScheme}`);
    }
  };
  await page.getByRole("heading", { name: "Cashtable" }).waitFor();
  await look("the first screen");
  const invite = relay.running.firstInvite?.code ?? "";
  await someone.begins({ relay: relay.address, invite, name: "A laptop with quite a long name" });
  await someone.enters({
    amount: "1,234,567.89",
    payee: "A payee with a name that is longer than any column",
    date: day(3),
    category: "Groceries",
    account: "Checking",
    note: "and a note that goes on for a while, so that it has to break somewhere",
  });
  await someone.enters({ amount: "9.90", payee: "Baker", date: day(3), received: true });
  await look("transactions");
  await page.keyboard.press("n");
  await page.getByRole("dialog").waitFor();
  await look("a new transaction");
  await page.keyboard.press("Escape");
  await someone.go("Overview");
  await look("overview");
  await someone.go("Accounts");
  await look("accounts");
  await someone.go("Devices");
  await look("devices");
  await someone.invites();
  await look("an invite");
  await page.keyboard.press("Escape");
  await someone.button("Make a recovery phrase").click();
  await someone.button("Show the words").click();
  await page.locator(".phrase-words li").nth(23).waitFor();
  await look("a recovery phrase");
  assert.deepEqual(someone.complaints, []);
});
