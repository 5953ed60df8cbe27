/** The book itself, a month at a time. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { useLedger } from "./hooks.ts";
import { type Ledger, monthBefore, nameOf, today } from "./ledger.ts";
import type { Transaction } from "./model.ts";
import { Amount, Icon } from "./parts.tsx";
import { TransactionForm } from "./transaction-form.tsx";

export function Transactions() {
  const ledger = useLedger();
  const [month, setMonth] = useState(today().slice(0, 7));
  const [account, setAccount] = useState("");
  const [search, setSearch] = useState("");
  const [editing, setEditing] = useState<string>();
  const shown = useMemo(
    () => ledger.transactions.filter(matches(ledger, { month, account, search })).toReversed(),
    [ledger, month, account, search],
  );
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const { target } = event;
      const typing =
        target instanceof HTMLElement && target.closest("input, select, textarea, dialog") !== null;
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "n") setEditing("new");
      else if (event.key === "/") document.getElementById("search")?.focus();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const searching = search.trim() !== "";
  return (
    <>
      <div class="tools">
        <div class="month">
          <button
            type="button"
            class="quiet"
            aria-label="Month before"
            onClick={() => setMonth(monthBefore(month, 1))}
          >
            <Icon name="left" />
          </button>
          <h1>{searching ? "Search" : monthName(month)}</h1>
          <button
            type="button"
            class="quiet"
            aria-label="Month after"
            onClick={() => setMonth(monthBefore(month, -1))}
          >
            <Icon name="right" />
          </button>
        </div>
        <label class="unseen" for="search">
          Search
        </label>
        <input
          id="search"
          type="search"
          placeholder="Search all months  /"
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
        <label class="unseen" for="account">
          Account
        </label>
        <select
          id="account"
          value={account}
          onChange={(event) => setAccount(event.currentTarget.value)}
        >
          <option value="">All accounts</option>
          {ledger.accounts.map(({ id, name }) => (
            <option key={id} value={id}>
              {name}
            </option>
          ))}
        </select>
        <button type="button" class="primary add" onClick={() => setEditing("new")}>
          <Icon name="plus" />
          <span>
            Add <span class="narrow-gone">transaction</span>
          </span>
        </button>
      </div>
      {shown.length === 0 ? (
        <div class="empty">
          <p>{searching ? "Nothing is found." : `Nothing in ${monthName(month)} yet.`}</p>
          {searching ? null : (
            <button type="button" onClick={() => setEditing("new")}>
              Add the first one
            </button>
          )}
        </div>
      ) : (
        <Table ledger={ledger} shown={shown} account={account} edit={setEditing} />
      )}
      {editing === undefined ? null : (
        <TransactionForm
          key={editing}
          ledger={ledger}
          transaction={ledger.transactions.find(({ id }) => id === editing)}
          account={account}
          month={month}
          close={() => setEditing(undefined)}
        />
      )}
    </>
  );
}

function Table(props: {
  readonly ledger: Ledger;
  readonly shown: readonly Transaction[];
  readonly account: string;
  readonly edit: (id: string) => void;
}) {
  const { ledger, shown, account, edit } = props;
  const { currency } = ledger;
  return (
    <table class="book">
      <caption class="unseen">Transactions, the newest first</caption>
      <thead>
        <tr>
          <th scope="col">Date</th>
          <th scope="col">Payee</th>
          <th scope="col">Category</th>
          <th scope="col">Account</th>
          <th scope="col" class="number">
            Amount
          </th>
          <th scope="col" class="number">
            Balance
          </th>
        </tr>
      </thead>
      <tbody>
        {shown.map((each) => {
          const running = ledger.running.get(each.id);
          const receipts = ledger.receipts.get(each.id)?.length ?? 0;
          return (
            <tr key={each.id}>
              <td class="date">
                <time dateTime={each.date}>{dayName(each.date)}</time>
              </td>
              <td class="payee">
                <button type="button" class="row" onClick={() => edit(each.id)}>
                  {each.payee === "" ? "Without a name" : each.payee}
                </button>
                {receipts > 0 ? (
                  <span class="clip" title={`${receipts} receipts`}>
                    <Icon name="clip" />
                    <span class="unseen">with receipt</span>
                  </span>
                ) : null}
                {each.note === "" ? null : <small>{each.note}</small>}
              </td>
              <td class="category">
                {each.category === "" ? null : (
                  <span class="chip">{nameOf(ledger.categories, each.category, "Gone")}</span>
                )}
              </td>
              <td class="account">{nameOf(ledger.accounts, each.account, "No account")}</td>
              <td class="number sum">
                <Amount value={each.amount} currency={currency} sign />
              </td>
              <td class="number balance">
                <Amount
                  value={(account === "" ? running?.all : running?.account) ?? 0}
                  currency={currency}
                />
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function matches(
  ledger: Ledger,
  by: { readonly month: string; readonly account: string; readonly search: string },
): (transaction: Transaction) => boolean {
  const words = by.search.toLowerCase().split(/\s+/u).filter(Boolean);
  return (each) => {
    if (by.account !== "" && each.account !== by.account) return false;
    if (words.length === 0) return each.date.startsWith(by.month);
    const category = nameOf(ledger.categories, each.category, "");
    const text = `${each.payee} ${each.note} ${category}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

export function monthName(month: string, length: "long" | "short" = "long"): string {
  const date = new Date(`${month}-15T12:00:00`);
  return new Intl.DateTimeFormat(undefined, {
    month: length,
    ...(length === "long" ? { year: "numeric" as const } : {}),
  }).format(date);
}

function dayName(date: string): string {
  const day = new Date(`${date}T12:00:00`);
  if (Number.isNaN(day.getTime())) return date;
  return new Intl.DateTimeFormat(undefined, {
    weekday: "short",
    day: "numeric",
    month: "short",
  }).format(day);
}
