/** What is worked out from a book: order, balances, months. */
import type * as Y from "yjs";
import {
  type Account,
  type Category,
  currencyOf,
  type Receipt,
  readAccounts,
  readCategories,
  readReceipts,
  readTransactions,
  type Transaction,
} from "./model.ts";

export interface Ledger {
  readonly currency: string;
  readonly accounts: readonly Account[];
  readonly categories: readonly Category[];
  /** The oldest first. */
  readonly transactions: readonly Transaction[];
  readonly receipts: ReadonlyMap<string, readonly Receipt[]>;
  /** What is in each account. */
  readonly balances: ReadonlyMap<string, number>;
  /** After each transaction: what is in its account, and in all of them. */
  readonly running: ReadonlyMap<string, { readonly account: number; readonly all: number }>;
  readonly total: number;
}

export interface MonthSums {
  /** `YYYY-MM`. */
  readonly month: string;
  readonly spent: number;
  readonly received: number;
}

export function readLedger(doc: Y.Doc): Ledger {
  const accounts = readAccounts(doc).toSorted(byName);
  const transactions = readTransactions(doc).toSorted(byDate);
  const receipts = new Map<string, Receipt[]>();
  for (const receipt of readReceipts(doc)) {
    receipts.set(receipt.transaction, [...(receipts.get(receipt.transaction) ?? []), receipt]);
  }
  const balances = new Map(accounts.map(({ id, opening }) => [id, opening]));
  const running = new Map<string, { account: number; all: number }>();
  let total = accounts.reduce((sum, { opening }) => sum + opening, 0);
  for (const { id, account, amount } of transactions) {
    const balance = (balances.get(account) ?? 0) + amount;
    total += amount;
    balances.set(account, balance);
    running.set(id, { account: balance, all: total });
  }
  return {
    currency: currencyOf(doc),
    accounts,
    categories: readCategories(doc).toSorted(byName),
    transactions,
    receipts,
    balances,
    running,
    total,
  };
}

/** So many months up to one, with what was spent and received in each. */
export function months({ transactions }: Ledger, until: string, count: number): MonthSums[] {
  const sums = new Map<string, { spent: number; received: number }>();
  for (let at = count - 1; at >= 0; at--)
    sums.set(monthBefore(until, at), { spent: 0, received: 0 });
  for (const { date, amount } of transactions) {
    const sum = sums.get(date.slice(0, 7));
    if (sum === undefined) continue;
    if (amount < 0) sum.spent -= amount;
    else sum.received += amount;
  }
  return [...sums].map(([month, sum]) => ({ month, ...sum }));
}

/** What was spent in a month, by category, the most first. */
export function spentBy(
  ledger: Ledger,
  month: string,
): { id: string; name: string; spent: number }[] {
  const sums = new Map<string, number>();
  for (const { date, amount, category } of ledger.transactions) {
    if (date.startsWith(month) && amount < 0)
      sums.set(category, (sums.get(category) ?? 0) - amount);
  }
  return [...sums]
    .map(([id, spent]) => ({ id, name: nameOf(ledger.categories, id, "No category"), spent }))
    .toSorted((a, b) => b.spent - a.spent);
}

export function nameOf(
  things: readonly { readonly id: string; readonly name: string }[],
  id: string,
  otherwise: string,
): string {
  return things.find((thing) => thing.id === id)?.name ?? otherwise;
}

/** The month so many months before one. */
export function monthBefore(month: string, count: number): string {
  const [year = 0, number = 1] = month.split("-").map(Number);
  const at = year * 12 + (number - 1) - count;
  return `${Math.floor(at / 12)}-${String((at % 12) + 1).padStart(2, "0")}`;
}

/** Today, where this device is. */
export function today(now = new Date()): string {
  const day = [now.getFullYear(), now.getMonth() + 1, now.getDate()];
  return day.map((part) => String(part).padStart(2, "0")).join("-");
}

function byDate(a: Transaction, b: Transaction): number {
  return compare(a.date, b.date) || a.made - b.made || compare(a.id, b.id);
}

function byName(a: { readonly name: string; readonly id: string }, b: typeof a): number {
  return a.name.localeCompare(b.name) || compare(a.id, b.id);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
