/** The example app when things go wrong: every device lost, and a relay that altered what it keeps. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import sqlite from "sqlite3";
import { today } from "../../examples/cashtable/src/ledger.ts";
import { TestRelay } from "../integration/support.ts";
import { Someone, serveApp } from "./cashtable-support.ts";
import { skip } from "./chromium.ts";

const day = (number: number): string => `${today().slice(0, 7)}-${String(number).padStart(2, "0")}`;

test("a recovery phrase counts once it is confirmed, and brings the book back onto a new device", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const address = await serveApp(t);
  const laptop = await Someone.arrives(t, address);
  const { page } = laptop;
  const invite = relay.running.firstInvite?.code ?? "";
  await laptop.begins({ relay: relay.address, invite, name: "Laptop" });
  await laptop.enters({ amount: "12.50", payee: "Baker", date: day(3), account: "Cash" });
  const words = async (): Promise<string[]> => {
    await laptop.button("Make a recovery phrase").click();
    await laptop.button("Show the words").click();
    await page.locator(".phrase-words li").nth(23).waitFor();
    return await page.locator(".phrase-words li").allTextContents();
  };
  await laptop.go("Devices");
  // Seen and not confirmed: it is withdrawn.
  assert.equal((await words()).length, 24);
  await page.keyboard.press("Escape");
  await laptop.button("Make a recovery phrase").waitFor();
  const phrase = await words();
  await laptop.button("I have written them down").click();
  const fields = page.getByRole("dialog").locator("input");
  for (const field of await fields.all()) await field.fill("wrong");
  await laptop.button("Confirm").click();
  await page.getByText(/Not so: look at word \d+/).waitFor();
  for (const field of await fields.all()) {
    const place = Number(/\d+/.exec((await field.getAttribute("name")) ?? "")?.[0]);
    await field.fill(phrase[place - 1] ?? "");
  }
  await laptop.button("Confirm").click();
  await page.getByText("The phrase is confirmed.").waitFor();
  await laptop.button("Done").click();
  await laptop.button("Replace it").waitFor();
  await laptop.becomes("Synced");

  const found = await Someone.arrives(t, address);
  await found.page.getByText("Use a recovery phrase").click();
  await found.page.getByRole("textbox", { name: "Recovery phrase" }).fill(phrase.join(" "));
  await found.page.getByLabel("Relay address").fill(relay.address);
  await found.page.getByLabel("Name of this device").fill("New laptop");
  await found.button("Bring the book back").click();
  await found.button("Baker").waitFor();
  await found.becomes("Synced");
  assert.deepEqual(await found.balances(), { Cash: "-€12.50", Checking: "€0.00" });
  for (const someone of [laptop, found]) assert.deepEqual(someone.complaints, []);
});

test("a relay that altered an entry: it is not in the book, and a person is told and decides", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const address = await serveApp(t);
  const laptop = await Someone.arrives(t, address);
  const invite = relay.running.firstInvite?.code ?? "";
  await laptop.begins({ relay: relay.address, invite, name: "Laptop" });
  await laptop.enters({ amount: "12.50", payee: "Baker", date: day(3), account: "Cash" });
  await laptop.enters({ amount: "3.00", payee: "Kiosk", date: day(4), account: "Cash" });
  await laptop.becomes("Synced");
  await relay.stop();
  await alterBody(join(relay.data, "relay.db"), 2);
  await relay.start();
  await laptop.comesBack();
  await laptop.becomes("Synced");
  const { link } = await laptop.invites();
  const phone = await Someone.arrives(t, address, { link, width: 400 });
  await phone.button("Join").click();
  await phone.words();
  await laptop.letsIn();
  await phone.becomes("Check needed");
  await phone.page.getByText("The history does not hold.").waitFor();
  assert.ok(!(await phone.shown()).some((line) => line.startsWith("Baker")));
  await phone.go("Devices");
  const found = phone.page.getByRole("region", { name: "What was found wrong" });
  await found.getByText(/is not what its sender signed/).waitFor();
  await found.getByText(/Written by Laptop/).waitFor();
  assert.deepEqual(phone.complaints, []);
});

test("a device that was removed becomes a new one, and what was entered on it meanwhile goes to the others", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const address = await serveApp(t);
  const laptop = await Someone.arrives(t, address);
  const invite = relay.running.firstInvite?.code ?? "";
  await laptop.begins({ relay: relay.address, invite, name: "Laptop" });
  await laptop.enters({ amount: "12.50", payee: "Baker", date: day(3), account: "Cash" });
  const phone = await Someone.arrives(t, address, { link: (await laptop.invites()).link });
  const joins = async (): Promise<void> => {
    await phone.page.getByLabel("Name of this device").fill("Phone");
    await phone.button("Join").click();
    assert.deepEqual(await laptop.words(), await phone.words());
    await laptop.letsIn();
    await phone.becomes("Synced");
  };
  await joins();
  await laptop.button("Remove Phone").click();
  await laptop.button("Remove", laptop.page.getByRole("dialog")).click();
  await phone.becomes("Removed");
  await phone.enters({ amount: "2.00", payee: "Ferry", date: day(5), account: "Cash" });
  await laptop.go("Transactions");
  await laptop.enters({ amount: "4.00", payee: "Kiosk", date: day(6), account: "Cash" });
  await phone.go("Devices");
  await phone.button("Become a new device").click();
  await phone.becomes("This device only");
  assert.deepEqual((await phone.shown()).length, 2);
  await phone.page.goto((await laptop.invites()).link);
  await joins();
  await laptop.go("Transactions");
  await laptop.button("Ferry").waitFor();
  await phone.button("Kiosk").waitFor();
  for (const someone of [laptop, phone]) {
    assert.deepEqual(await someone.balances(), { Cash: "-€18.50", Checking: "€0.00" });
    assert.deepEqual(someone.complaints, []);
  }
});

/** What a relay that lies, or a failing disk, does to one entry. */
function alterBody(file: string, cursor: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const database = new sqlite.Database(file);
    const end = (error: Error | null): void => {
      database.close((failed) => ((error ?? failed) ? reject(error ?? failed) : resolve()));
    };
    database.get<{ body: Buffer }>(
      "SELECT body FROM blobs WHERE cursor = ?",
      [cursor],
      (error, row) => {
        if (error !== null || row === undefined) return end(error);
        row.body[40] = (row.body[40] ?? 0) ^ 1;
        database.run("UPDATE blobs SET body = ? WHERE cursor = ?", [row.body, cursor], end);
      },
    );
  });
}
