/**
 * The book as a Yjs document, and everything that changes it. Each account, category, transaction and receipt
 * is a map of its own, so that two devices that change different things of one keep both.
 */
import * as Y from "yjs";

export interface Account {
  readonly id: string;
  readonly name: string;
  /** What was in it before the first transaction. */
  readonly opening: number;
}

export interface Category {
  readonly id: string;
  readonly name: string;
}

export interface Transaction {
  readonly id: string;
  readonly account: string;
  /** `YYYY-MM-DD`. */
  readonly date: string;
  readonly payee: string;
  /** A category's id; empty where there is none. */
  readonly category: string;
  /** In the smallest unit; what was spent is below zero. */
  readonly amount: number;
  readonly note: string;
  /** When it was entered: the order within a day. */
  readonly made: number;
}

export interface Receipt {
  readonly id: string;
  readonly transaction: string;
  readonly name: string;
  readonly type: string;
  readonly size: number;
  /** Which device it is on, until it is uploaded. */
  readonly device: string;
  /** What the content is fetched by, once it is on the relay. */
  readonly reference?: Uint8Array;
}

type Table = "accounts" | "categories" | "transactions" | "receipts";

/** A name for something new, here and on every other device. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether there is a book. */
export function hasBook(doc: Y.Doc): boolean {
  return doc.getMap("about").has("currency");
}

export function currencyOf(doc: Y.Doc): string {
  return (doc.getMap("about").get("currency") as string | undefined) ?? "EUR";
}

const firstAccounts = ["Cash", "Checking"];
const firstCategories = [
  "Groceries",
  "Eating out",
  "Home",
  "Transport",
  "Health",
  "Leisure",
  "Income",
];

/** Begins a book. Two devices that begin one apart, and are paired later, have each of these once: ids are fixed. */
export function beginBook(doc: Y.Doc, currency: string): void {
  doc.transact(() => {
    doc.getMap("about").set("currency", currency);
    for (const name of firstAccounts) put(doc, "accounts", idOf(name), { name, opening: 0 });
    for (const name of firstCategories) put(doc, "categories", idOf(name), { name });
  });
}

export function saveAccount(doc: Y.Doc, account: Omit<Account, "id"> & { readonly id?: string }) {
  const { id = newId(), ...fields } = account;
  put(doc, "accounts", id, fields);
  return id;
}

export function saveCategory(
  doc: Y.Doc,
  category: Omit<Category, "id"> & { readonly id?: string },
) {
  const { id = newId(), ...fields } = category;
  put(doc, "categories", id, fields);
  return id;
}

export function saveTransaction(
  doc: Y.Doc,
  transaction: Omit<Transaction, "id"> & { readonly id?: string },
): string {
  const { id = newId(), ...fields } = transaction;
  put(doc, "transactions", id, fields);
  return id;
}

/** A transaction goes with its receipts. */
export function removeTransaction(doc: Y.Doc, id: string): void {
  doc.transact(() => {
    for (const receipt of readReceipts(doc)) {
      if (receipt.transaction === id) removeReceipt(doc, receipt.id);
    }
    doc.getMap("transactions").delete(id);
  });
}

export function saveReceipt(doc: Y.Doc, { id, ...fields }: Receipt): void {
  put(doc, "receipts", id, fields);
}

export function removeReceipt(doc: Y.Doc, id: string): void {
  doc.getMap("receipts").delete(id);
}

export function readAccounts(doc: Y.Doc): Account[] {
  return rows(doc, "accounts").map(([id, row]) => ({
    id,
    name: text(row, "name"),
    opening: amount(row, "opening"),
  }));
}

export function readCategories(doc: Y.Doc): Category[] {
  return rows(doc, "categories").map(([id, row]) => ({ id, name: text(row, "name") }));
}

export function readTransactions(doc: Y.Doc): Transaction[] {
  return rows(doc, "transactions").map(([id, row]) => ({
    id,
    account: text(row, "account"),
    date: text(row, "date"),
    payee: text(row, "payee"),
    category: text(row, "category"),
    amount: amount(row, "amount"),
    note: text(row, "note"),
    made: amount(row, "made"),
  }));
}

export function readReceipts(doc: Y.Doc): Receipt[] {
  return rows(doc, "receipts").map(([id, row]) => {
    const reference = row.get("reference");
    return {
      id,
      transaction: text(row, "transaction"),
      name: text(row, "name"),
      type: text(row, "type"),
      size: amount(row, "size"),
      device: text(row, "device"),
      ...(reference instanceof Uint8Array ? { reference } : {}),
    };
  });
}

function put(doc: Y.Doc, table: Table, id: string, fields: object): void {
  doc.transact(() => {
    const rows = doc.getMap<Y.Map<unknown>>(table);
    let row = rows.get(id);
    if (row === undefined) {
      row = new Y.Map();
      rows.set(id, row);
    }
    for (const [name, value] of Object.entries(fields)) {
      // What is as it was is not written: it would undo what another device changes meanwhile.
      if (value !== undefined && row.get(name) !== value) row.set(name, value);
    }
  });
}

function rows(doc: Y.Doc, table: Table): [string, Y.Map<unknown>][] {
  return [...doc.getMap(table).entries()].filter(
    (entry): entry is [string, Y.Map<unknown>] => entry[1] instanceof Y.Map,
  );
}

function text(row: Y.Map<unknown>, name: string): string {
  const value = row.get(name);
  return typeof value === "string" ? value : "";
}

function amount(row: Y.Map<unknown>, name: string): number {
  const value = row.get(name);
  return typeof value === "number" && Number.isSafeInteger(value) ? value : 0;
}

function idOf(name: string): string {
  return name.toLowerCase().replaceAll(" ", "-");
}
