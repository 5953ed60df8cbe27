/**
 * The example app as its users have it: three devices of a household, paired by QR code and by code; a month
 * of transactions; one device without a network for a week; one removed.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { encode } from "uqr";
import { today } from "../../examples/cashtable/src/ledger.ts";
import { formatAmount } from "../../examples/cashtable/src/money.ts";
import { TestRelay } from "../integration/support.ts";
import { Someone, serveApp } from "./cashtable-support.ts";
import { skip } from "./chromium.ts";

const month = today().slice(0, 7);
const day = (number: number): string => `${month}-${String(number).padStart(2, "0")}`;
const euros = (cents: number): string => formatAmount(cents, "EUR", { locale: "en-US" });

/** A picture of one pixel. */
const picture = {
  name: "till.png",
  mimeType: "image/png",
  buffer: Buffer.from(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "base64",
  ),
};

test("a household's month on three devices, one offline for a week and one removed", {
  skip,
}, async (t) => {
  const relay = await TestRelay.start(t);
  const address = await serveApp(t);
  const laptop = await Someone.arrives(t, address);
  const invite = relay.running.firstInvite?.code ?? "";
  await laptop.begins({ relay: relay.address, invite, name: "Laptop" });
  let cash = 0;
  let checking = 0;

  // What was entered before there is a second device comes along.
  await laptop.enters({
    amount: "2,850.00",
    payee: "Salary",
    date: day(1),
    category: "Income",
    account: "Checking",
    received: true,
  });
  checking += 285_000;
  await laptop.enters({
    amount: "940",
    payee: "Rent",
    date: day(2),
    category: "Home",
    account: "Checking",
  });
  checking -= 94_000;

  // The phone, by the QR code: it shows what the link says, and the link opens the page.
  const byLink = await laptop.invites();
  const { data } = encode(byLink.link, { ecc: "M", border: 2 });
  const drawn = await laptop.page.locator("svg.qr path").getAttribute("d");
  const squares = data.flatMap((row, y) =>
    row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])),
  );
  assert.equal(drawn, squares.join(""));
  const phone = await Someone.arrives(t, address, { link: byLink.link, width: 400 });
  await phone.page.getByLabel("Name of this device").fill("Phone");
  assert.ok(!phone.page.url().includes("#"), "the link's secret does not stay in the address");
  await phone.button("Join").click();
  const words = await phone.words();
  assert.equal(words.length, 3);
  assert.deepEqual(await laptop.words(), words);
  await laptop.letsIn();
  await phone.becomes("Synced");
  await phone.page.getByRole("button", { name: "Rent" }).waitFor();

  // The tablet, by the code and the relay's address.
  const byCode = await laptop.invites();
  const tablet = await Someone.arrives(t, address, { dark: true, width: 800 });
  await tablet.page.getByText("Add this device").click();
  await tablet.page.getByLabel("Link or code").fill(byCode.code.toLowerCase());
  await tablet.page.getByLabel("Relay address").fill(byCode.relay);
  await tablet.page.getByLabel("Name of this device").fill("Tablet");
  await tablet.button("Join").click();
  assert.deepEqual(await laptop.words(), await tablet.words());
  await laptop.letsIn();
  await tablet.becomes("Synced");

  // A week without a network: the page is opened anew, and entries are kept, with a picture.
  await phone.leaves();
  await phone.page.reload();
  await phone.page.getByText("What you enter is kept here").waitFor();
  const week = [3, 4, 5, 6, 7, 8, 9];
  for (const number of week) {
    const amount = 700 + number * 11;
    await phone.enters({
      amount: (amount / 100).toFixed(2),
      payee: `Canteen ${number}`,
      date: day(number),
      ...(number === 5 ? { receipt: picture, note: "with Ada" } : {}),
    });
    cash -= amount;
  }
  await phone.button("Canteen 5").click();
  await phone.page.getByText("only on this device yet").waitFor();
  await phone.page.keyboard.press("Escape");
  // Meanwhile the others go on.
  for (const number of [3, 5, 10, 12]) {
    const amount = 2_300 + number;
    await laptop.go("Transactions");
    await laptop.enters({
      amount: (amount / 100).toFixed(2),
      payee: `Market ${number}`,
      date: day(number),
      category: "Groceries",
      account: "Checking",
    });
    checking -= amount;
  }
  await tablet.enters({
    amount: "55.90",
    payee: "Train",
    date: day(8),
    category: "Transport",
  });
  cash -= 5_590;
  assert.equal((await phone.shown()).length, 9);
  await phone.comesBack();
  await phone.becomes("Synced");
  for (const someone of [laptop, phone, tablet]) {
    await someone.go("Transactions");
    await someone.button("Canteen 9").waitFor();
    await someone.button("Train").waitFor();
    await someone.button("Market 12").waitFor();
  }

  // The picture, on another device.
  await laptop.button("Canteen 5").click();
  await laptop.button(/^till/u).click();
  const seen = laptop.page.getByRole("img", { name: "till.png" });
  await seen.waitFor();
  assert.equal(await seen.evaluate((image) => (image as HTMLImageElement).naturalWidth), 1);
  await laptop.page.keyboard.press("Escape");

  // One entry is changed on two devices: the note here, the amount there.
  await laptop.button("Canteen 9").click();
  await laptop.page.getByLabel("Note").fill("birthday");
  await laptop.button("Save").click();
  await phone.button("Canteen 9").click();
  await phone.page.getByLabel(/Amount/).fill("19.99");
  await phone.button("Save").click();
  cash += 799 - 1_999;

  // Loaded again in the middle of a push: it is there once, everywhere.
  await laptop.enters({ amount: "12.00", payee: "Halfway", date: day(14) });
  await laptop.page.reload();
  cash -= 1_200;
  await laptop.becomes("Synced");
  await phone.button("Halfway").waitFor();

  const expected = { Cash: euros(cash), Checking: euros(checking) };
  for (const someone of [laptop, phone, tablet]) {
    await someone.becomes("Synced");
    await someone.page.waitForFunction(
      (total) => document.querySelector(".total .amount")?.textContent === total,
      euros(cash + checking),
    );
    assert.deepEqual(await someone.balances(), expected);
  }
  const all = await laptop.shown();
  assert.equal(all.length, 15);
  assert.equal(all.filter((line) => line.startsWith("Halfway")).length, 1);
  assert.deepEqual(await phone.shown(), all);
  await phone.button("Canteen 9").click();
  assert.equal(await phone.page.getByLabel("Note").inputValue(), "birthday");
  await phone.page.keyboard.press("Escape");

  // The tablet is removed: it keeps what it had, and is told so.
  await laptop.go("Devices");
  await laptop.button("Remove Tablet").click();
  await laptop.button("Remove", laptop.page.getByRole("dialog")).click();
  await laptop.page.getByRole("dialog").waitFor({ state: "hidden" });
  await laptop.page.getByRole("heading", { name: "Tablet" }).waitFor({ state: "hidden" });
  await tablet.becomes("Removed");
  await tablet.page.getByText("This device was removed from the group.").waitFor();
  await tablet.go("Transactions");
  await tablet.enters({ amount: "1.00", payee: "Nobody hears it", date: day(15) });
  await laptop.go("Transactions");
  await laptop.enters({
    amount: "3.00",
    payee: "After the tablet",
    date: day(16),
  });
  cash -= 300;
  await phone.go("Transactions");
  await phone.button("After the tablet").waitFor();
  const left = { Cash: euros(cash), Checking: euros(checking) };
  for (const someone of [laptop, phone]) {
    await someone.becomes("Synced");
    assert.deepEqual(await someone.balances(), left);
    assert.ok(!(await someone.shown()).some((line) => line.startsWith("Nobody")));
  }
  assert.ok((await tablet.shown()).some((line) => line.startsWith("Nobody")));
  for (const someone of [laptop, phone, tablet]) assert.deepEqual(someone.complaints, []);
});
