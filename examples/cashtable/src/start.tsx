/** The first screen: a new book, the book of another device, or the one a recovery phrase brings back. */

import { useState } from "preact/hooks";
import { Mark } from "./app-mark.tsx";
import { entered } from "./form.ts";
import { useApp, useTask } from "./hooks.ts";
import { JoinForm } from "./joining.tsx";
import { beginBook } from "./model.ts";
import { Field, Problem } from "./parts.tsx";
import { foundGroup, NameField, RelayFields } from "./relay-form.tsx";
import { explain } from "./session.ts";

const ways = {
  new: { title: "Start a new book", more: "On this device, and synced once you have a relay." },
  join: { title: "Add this device", more: "Your book is on another device already." },
  recover: {
    title: "Use a recovery phrase",
    more: "All devices are lost: 24 words bring the book back.",
  },
} as const;
type Way = keyof typeof ways;

export function Start(props: { readonly link: string | undefined; readonly done: () => void }) {
  const [way, setWay] = useState<Way>(props.link === undefined ? "new" : "join");
  return (
    <main class="start">
      <header>
        <Mark />
        <h1>Cashtable</h1>
        <p>
          Your accounts, on your devices. They sync through a relay of your choice, which cannot
          read a word of them.
        </p>
      </header>
      <div class="ways" role="radiogroup" aria-label="How to begin">
        {(Object.keys(ways) as Way[]).map((each) => (
          <label key={each} class="way">
            <input
              type="radio"
              name="way"
              value={each}
              checked={way === each}
              onChange={() => setWay(each)}
            />
            <span>
              <strong>{ways[each].title}</strong>
              <small>{ways[each].more}</small>
            </span>
          </label>
        ))}
      </div>
      <section class="card">
        {way === "new" && <NewBook done={props.done} />}
        {way === "join" && <JoinForm link={props.link} done={props.done} />}
        {way === "recover" && <Recover done={props.done} />}
      </section>
    </main>
  );
}

const currencies = [
  "EUR",
  "USD",
  "GBP",
  "CHF",
  "SEK",
  "NOK",
  "DKK",
  "PLN",
  "CZK",
  "JPY",
  "CAD",
  "AUD",
];

function NewBook({ done }: { readonly done: () => void }) {
  const { session } = useApp();
  const task = useTask(explain);
  const [synced, setSynced] = useState(true);
  const submit = async (event: SubmitEvent): Promise<void> => {
    const said = entered(event);
    const ok = await task.run(async () => {
      if (synced) await foundGroup(session, said);
      beginBook(session.doc, said("currency"));
    });
    if (ok) done();
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      <Field label="Currency">
        <select name="currency">
          {currencies.map((currency) => (
            <option key={currency}>{currency}</option>
          ))}
        </select>
      </Field>
      <label class="check">
        <input type="checkbox" checked={synced} onChange={() => setSynced(!synced)} />
        Sync it with other devices
      </label>
      {synced ? (
        <RelayFields />
      ) : (
        <p class="hint">
          The book stays on this device alone. You can sync it later, under Devices.
        </p>
      )}
      <Problem text={task.error} />
      <button type="submit" class="primary" disabled={task.busy}>
        {task.busy ? "Founding the group…" : "Start"}
      </button>
    </form>
  );
}

function Recover({ done }: { readonly done: () => void }) {
  const { session } = useApp();
  const task = useTask(explain);
  const submit = async (event: SubmitEvent): Promise<void> => {
    const said = entered(event);
    const ok = await task.run(async () => {
      await session.reopen({ relay: said("relay"), name: said("name") });
      await session.client.recover(said("words"));
    });
    if (ok) done();
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      <Field label="Recovery phrase" hint="24 words, with spaces between them.">
        <textarea name="words" rows={4} required autocomplete="off" spellcheck={false} />
      </Field>
      <Field label="Relay address">
        <input
          name="relay"
          required
          placeholder="wss://sync.example.com/#…"
          autocomplete="off"
          spellcheck={false}
        />
      </Field>
      <NameField />
      <Problem text={task.error} />
      <button type="submit" class="primary" disabled={task.busy}>
        {task.busy ? "Bringing it back…" : "Bring the book back"}
      </button>
    </form>
  );
}
