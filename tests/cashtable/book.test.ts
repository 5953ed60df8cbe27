/** The example's book: amounts, balances, months, and what two devices make of it apart. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import {
  monthBefore,
  months,
  readLedger,
  spentBy,
  today,
} from "../../examples/cashtable/src/ledger.ts";
import {
  beginBook,
  hasBook,
  removeTransaction,
  saveAccount,
  saveReceipt,
  saveTransaction,
} from "../../examples/cashtable/src/model.ts";
import { fieldAmount, formatAmount, parseAmount } from "../../examples/cashtable/src/money.ts";

const entry = {
  account: "cash",
  date: "2026-11-03",
  payee: "Baker",
  category: "groceries",
  amount: -1_250,
  note: "",
  made: 1,
};

function book(): Y.Doc {
  const doc = new Y.Doc();
  beginBook(doc, "EUR");
  return doc;
}

function exchange(a: Y.Doc, b: Y.Doc): void {
  Y.applyUpdate(a, Y.encodeStateAsUpdate(b));
  Y.applyUpdate(b, Y.encodeStateAsUpdate(a));
}

test("amounts are read as people type them", () => {
  for (const [text, amount] of [
    ["12", 1_200],
    ["12.5", 1_250],
    ["12,50", 1_250],
    [".99", 99],
    ["1,234.50", 123_450],
    ["1.234,50", 123_450],
    ["1 234,50", 123_450],
    ["1,234", 123_400],
    ["1.234.567", 123_456_700],
    ["-3", -300],
    ["0", 0],
  ] as const) {
    assert.equal(parseAmount(text, "EUR"), amount, text);
  }
  for (const text of ["", "abc", "1.2.3", "12.345.6", "1,23,456", "--1", "1e3", "9".repeat(20)]) {
    assert.equal(parseAmount(text, "EUR"), undefined, text);
  }
  assert.equal(parseAmount("1200", "JPY"), 1_200);
  assert.equal(parseAmount("1,200", "JPY"), 1_200);
  assert.equal(parseAmount("1.250", "KWD"), 1_250);
});

test("an amount in a field is read as what it was", () => {
  for (const currency of ["EUR", "JPY"]) {
    for (const amount of [0, 5, 99, 1_250, 1_234_567]) {
      assert.equal(parseAmount(fieldAmount(amount, currency), currency), amount);
    }
  }
  assert.equal(formatAmount(-1_250, "EUR", { locale: "en-US", sign: true }), "-€12.50");
});

test("balances run in the order of days, whatever the order in which it was entered", () => {
  const doc = book();
  saveAccount(doc, { id: "cash", name: "Cash", opening: 5_000 });
  const late = saveTransaction(doc, { ...entry, date: "2026-11-20", amount: -700, made: 1 });
  const first = saveTransaction(doc, { ...entry, date: "2026-11-01", amount: 10_000, made: 3 });
  const second = saveTransaction(doc, { ...entry, date: "2026-11-01", amount: -100, made: 4 });
  const other = saveTransaction(doc, { ...entry, account: "checking", amount: 1, made: 2 });
  const ledger = readLedger(doc);
  assert.deepEqual(
    ledger.transactions.map(({ id }) => id),
    [first, second, other, late],
  );
  assert.deepEqual(
    [first, second, other, late].map((id) => ledger.running.get(id)),
    [
      { account: 15_000, all: 15_000 },
      { account: 14_900, all: 14_900 },
      { account: 1, all: 14_901 },
      { account: 14_200, all: 14_201 },
    ],
  );
  assert.equal(ledger.balances.get("cash"), 14_200);
  assert.equal(ledger.total, 14_201);
});

test("months and categories add up", () => {
  const doc = book();
  saveTransaction(doc, { ...entry, amount: -1_000 });
  saveTransaction(doc, { ...entry, amount: -500, category: "home" });
  saveTransaction(doc, { ...entry, amount: -2_000, category: "home", date: "2026-10-31" });
  saveTransaction(doc, { ...entry, amount: 9_000, category: "income" });
  const ledger = readLedger(doc);
  assert.deepEqual(months(ledger, "2026-11", 2), [
    { month: "2026-10", spent: 2_000, received: 0 },
    { month: "2026-11", spent: 1_500, received: 9_000 },
  ]);
  assert.deepEqual(spentBy(ledger, "2026-11"), [
    { id: "groceries", name: "Groceries", spent: 1_000 },
    { id: "home", name: "Home", spent: 500 },
  ]);
  assert.equal(monthBefore("2026-01", 1), "2025-12");
  assert.equal(monthBefore("2026-11", -2), "2027-01");
  assert.equal(today(new Date(2026, 0, 5)), "2026-01-05");
});

test("two devices that begin a book apart have one, with each first account once", () => {
  const [a, b] = [book(), book()];
  exchange(a, b);
  assert.deepEqual(
    readLedger(a).accounts.map(({ name }) => name),
    ["Cash", "Checking"],
  );
  assert.deepEqual(readLedger(a), readLedger(b));
  assert.equal(hasBook(new Y.Doc()), false);
});

test("different fields of one transaction, changed apart, are both kept", () => {
  const [a, b] = [book(), new Y.Doc()];
  const id = saveTransaction(a, entry);
  exchange(a, b);
  saveTransaction(a, { ...entry, id, note: "with Ada" });
  saveTransaction(b, { ...entry, id, amount: -1_300 });
  exchange(a, b);
  const [merged] = readLedger(b).transactions;
  assert.equal(merged?.note, "with Ada");
  assert.equal(merged?.amount, -1_300);
  assert.deepEqual(readLedger(a), readLedger(b));
});

test("a transaction that is deleted takes its receipts along", () => {
  const doc = book();
  const [kept, gone] = [saveTransaction(doc, entry), saveTransaction(doc, entry)];
  for (const transaction of [kept, gone]) {
    saveReceipt(doc, {
      id: `receipt of ${transaction}`,
      transaction,
      name: "receipt.png",
      type: "image/png",
      size: 1,
      device: "a",
    });
  }
  removeTransaction(doc, gone);
  const { receipts, transactions } = readLedger(doc);
  assert.deepEqual([...receipts.keys()], [kept]);
  assert.equal(transactions.length, 1);
});

test("what another app wrote into the document breaks nothing", () => {
  const doc = book();
  doc.getMap("transactions").set("odd", "no map");
  doc.getMap("transactions").set("empty", new Y.Map());
  const ledger = readLedger(doc);
  assert.equal(ledger.total, 0);
  assert.equal(ledger.transactions.length, 1);
});
