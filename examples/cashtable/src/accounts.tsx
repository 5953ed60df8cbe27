/** Accounts with what is in them, and categories. */

import { useState } from "preact/hooks";
import { entered } from "./form.ts";
import { useApp, useLedger } from "./hooks.ts";
import { type Account, type Category, saveAccount, saveCategory } from "./model.ts";
import { fieldAmount, parseAmount } from "./money.ts";
import { Amount, Dialog, Field, Icon, Problem } from "./parts.tsx";

type Editing =
  | { readonly what: "account"; readonly account?: Account }
  | { readonly what: "category"; readonly category?: Category };

export function Accounts() {
  const ledger = useLedger();
  const [editing, setEditing] = useState<Editing>();
  const counts = new Map<string, number>();
  for (const { account, category } of ledger.transactions) {
    for (const id of [account, category]) counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return (
    <>
      <div class="tools">
        <h1>Accounts</h1>
        <span class="space" />
        <button type="button" class="primary" onClick={() => setEditing({ what: "account" })}>
          <Icon name="plus" />
          New account
        </button>
      </div>
      <ul class="accounts">
        {ledger.accounts.map((account) => (
          <li key={account.id} class="card">
            <button
              type="button"
              class="row"
              onClick={() => setEditing({ what: "account", account })}
            >
              {account.name}
            </button>
            <strong>
              <Amount value={ledger.balances.get(account.id) ?? 0} currency={ledger.currency} />
            </strong>
            <small>{counted(counts.get(account.id) ?? 0)}</small>
          </li>
        ))}
      </ul>
      <div class="tools">
        <h2>Categories</h2>
        <span class="space" />
        <button type="button" onClick={() => setEditing({ what: "category" })}>
          <Icon name="plus" />
          New category
        </button>
      </div>
      <ul class="categories">
        {ledger.categories.map((category) => (
          <li key={category.id}>
            <button
              type="button"
              class="chip"
              onClick={() => setEditing({ what: "category", category })}
            >
              {category.name}
              <small>{counts.get(category.id) ?? 0}</small>
            </button>
          </li>
        ))}
      </ul>
      {editing === undefined ? null : (
        <ThingForm
          editing={editing}
          currency={ledger.currency}
          close={() => setEditing(undefined)}
        />
      )}
    </>
  );
}

function ThingForm(props: {
  readonly editing: Editing;
  readonly currency: string;
  readonly close: () => void;
}) {
  const { editing, currency, close } = props;
  const { doc } = useApp().session;
  const [error, setError] = useState<string>();
  const account = editing.what === "account" ? editing.account : undefined;
  const thing = account ?? (editing.what === "category" ? editing.category : undefined);
  const submit = (event: SubmitEvent): void => {
    const said = entered(event);
    const name = said("name");
    const known = thing === undefined ? {} : { id: thing.id };
    if (editing.what === "category") {
      saveCategory(doc, { name, ...known });
    } else {
      const opening = parseAmount(said("opening"), currency);
      if (opening === undefined) {
        setError("An amount looks like 12.50.");
        return;
      }
      saveAccount(doc, { name, opening, ...known });
    }
    close();
  };
  return (
    <Dialog title={`${thing === undefined ? "New" : "Change"} ${editing.what}`} close={close}>
      <form onSubmit={submit}>
        <Field label="Name">
          <input name="name" required autofocus maxLength={60} defaultValue={thing?.name ?? ""} />
        </Field>
        {editing.what === "account" ? (
          <Field label={`In it at the beginning, in ${currency}`}>
            <input
              name="opening"
              inputMode="decimal"
              required
              defaultValue={fieldAmount(account?.opening ?? 0, currency)}
            />
          </Field>
        ) : null}
        <Problem text={error} />
        <footer>
          <span class="space" />
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary">
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function counted(count: number): string {
  return count === 1 ? "1 transaction" : `${count} transactions`;
}
