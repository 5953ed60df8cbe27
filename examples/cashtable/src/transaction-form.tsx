/** One transaction: entered, changed, with its receipts. */

import { useEffect, useState } from "preact/hooks";
import { entered } from "./form.ts";
import { useApp, useTask } from "./hooks.ts";
import { type Ledger, today } from "./ledger.ts";
import {
  newId,
  type Receipt,
  removeReceipt,
  removeTransaction,
  saveTransaction,
  type Transaction,
} from "./model.ts";
import { fieldAmount, parseAmount } from "./money.ts";
import { Dialog, Field, Icon, Problem } from "./parts.tsx";
import { receiptBytesMax } from "./receipts.ts";
import { explain } from "./session.ts";

export function TransactionForm(props: {
  readonly ledger: Ledger;
  /** None: a new one. */
  readonly transaction: Transaction | undefined;
  readonly account: string;
  readonly month: string;
  readonly close: () => void;
}) {
  const { ledger, transaction, close } = props;
  const { session, receipts } = useApp();
  const { currency } = ledger;
  const task = useTask(explain);
  const [files, setFiles] = useState<readonly File[]>([]);
  const [removing, setRemoving] = useState(false);
  const kept = transaction === undefined ? [] : (ledger.receipts.get(transaction.id) ?? []);
  const day = today().startsWith(props.month) ? today() : `${props.month}-01`;

  const submit = async (event: SubmitEvent): Promise<void> => {
    const said = entered(event);
    const amount = parseAmount(said("amount"), currency);
    if (amount === undefined) {
      task.setError("An amount looks like 12.50.");
      document.getElementById("amount")?.focus();
      return;
    }
    const id = transaction?.id ?? newId();
    const ok = await task.run(async () => {
      saveTransaction(session.doc, {
        id,
        account: said("account"),
        date: said("date"),
        payee: said("payee"),
        category: said("category"),
        amount: said("way") === "received" ? Math.abs(amount) : -Math.abs(amount),
        note: said("note"),
        made: transaction?.made ?? Date.now(),
      });
      for (const file of files) await receipts.add(id, file);
      await session.stored();
    });
    if (ok) close();
  };

  const addFiles = (input: HTMLInputElement): void => {
    const chosen = [...(input.files ?? [])];
    const large = chosen.find(({ size }) => size > receiptBytesMax);
    task.setError(large === undefined ? undefined : `${large.name} is larger than 20 MB.`);
    setFiles([...files, ...chosen.filter((file) => file !== large)]);
    input.value = "";
  };

  const payees = [...new Set(ledger.transactions.map(({ payee }) => payee))].slice(-200);
  return (
    <Dialog title={transaction === undefined ? "New transaction" : "Transaction"} close={close}>
      <form onSubmit={(event) => void submit(event)} class="entry">
        <fieldset class="switch">
          <legend class="unseen">Which way</legend>
          <label>
            <input
              type="radio"
              name="way"
              value="spent"
              defaultChecked={(transaction?.amount ?? -1) < 0}
            />
            <span>Spent</span>
          </label>
          <label>
            <input
              type="radio"
              name="way"
              value="received"
              defaultChecked={(transaction?.amount ?? -1) >= 0}
            />
            <span>Received</span>
          </label>
        </fieldset>
        <Field label={`Amount in ${currency}`} class="big">
          <input
            id="amount"
            name="amount"
            inputMode="decimal"
            required
            autofocus
            autocomplete="off"
            placeholder={fieldAmount(0, currency)}
            defaultValue={
              transaction === undefined ? "" : fieldAmount(Math.abs(transaction.amount), currency)
            }
          />
        </Field>
        <Field label="Payee">
          <input
            name="payee"
            list="payees"
            autocomplete="off"
            required
            defaultValue={transaction?.payee ?? ""}
          />
        </Field>
        <datalist id="payees">
          {payees.map((payee) => (
            <option key={payee} value={payee} />
          ))}
        </datalist>
        <Field label="Date">
          <input type="date" name="date" required defaultValue={transaction?.date ?? day} />
        </Field>
        <Field label="Category">
          <select name="category" defaultValue={transaction?.category ?? ""}>
            <option value="">None</option>
            {ledger.categories.map(({ id, name }) => (
              <option key={id} value={id} selected={transaction?.category === id}>
                {name}
              </option>
            ))}
          </select>
        </Field>
        <Field label="Account">
          <select name="account" required>
            {ledger.accounts.map(({ id, name }) => (
              <option key={id} value={id} selected={(transaction?.account ?? props.account) === id}>
                {name}
              </option>
            ))}
          </select>
        </Field>
        <Field label="Note" class="full">
          <input name="note" autocomplete="off" defaultValue={transaction?.note ?? ""} />
        </Field>
        <div class="receipts full">
          <ul>
            {kept.map((receipt) => (
              <ReceiptLine key={receipt.id} receipt={receipt} />
            ))}
            {files.map((file) => (
              <li key={file.name}>
                <Icon name="clip" />
                <span>{file.name}</span>
                <small>{sizeOf(file.size)}</small>
                <button
                  type="button"
                  class="quiet"
                  aria-label={`Leave out ${file.name}`}
                  onClick={() => setFiles(files.filter((each) => each !== file))}
                >
                  <Icon name="cross" />
                </button>
              </li>
            ))}
          </ul>
          <label class="button file">
            <Icon name="clip" />
            Add a receipt
            <input
              type="file"
              accept="image/*,application/pdf"
              multiple
              onChange={(event) => addFiles(event.currentTarget)}
            />
          </label>
        </div>
        <Problem text={task.error} />
        <footer class="full">
          {transaction === undefined ? null : removing ? (
            <button
              type="button"
              class="danger"
              onClick={() => {
                removeTransaction(session.doc, transaction.id);
                close();
              }}
            >
              Delete for good
            </button>
          ) : (
            <button type="button" class="quiet" onClick={() => setRemoving(true)}>
              Delete
            </button>
          )}
          <span class="space" />
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={task.busy}>
            Save
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function ReceiptLine({ receipt }: { readonly receipt: Receipt }) {
  const { session, receipts } = useApp();
  const task = useTask(explain);
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    if (url === undefined) return undefined;
    return () => URL.revokeObjectURL(url);
  }, [url]);
  const show = (): void => {
    if (url !== undefined) {
      setUrl(undefined);
      return;
    }
    void task.run(async () => setUrl(URL.createObjectURL(await receipts.read(receipt))));
  };
  const own = receipt.device === session.client.deviceId;
  const where = own ? "only on this device yet" : "on its way from another device";
  return (
    <li>
      <Icon name="clip" />
      <button type="button" class="row" onClick={show} aria-expanded={url !== undefined}>
        {receipt.name}
      </button>
      <small>
        {task.busy ? "fetching…" : sizeOf(receipt.size)}
        {receipt.reference === undefined ? `, ${where}` : ""}
      </small>
      <button
        type="button"
        class="quiet"
        aria-label={`Delete ${receipt.name}`}
        onClick={() => removeReceipt(session.doc, receipt.id)}
      >
        <Icon name="cross" />
      </button>
      <Problem text={task.error} />
      {url === undefined ? null : receipt.type.startsWith("image/") ? (
        <img src={url} alt={receipt.name} />
      ) : (
        <iframe src={url} title={receipt.name} />
      )}
    </li>
  );
}

function sizeOf(bytes: number): string {
  return bytes < 1_000_000
    ? `${Math.ceil(bytes / 1_000)} kB`
    : `${(bytes / 1_000_000).toFixed(1)} MB`;
}
