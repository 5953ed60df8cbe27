/** This device joins the group of another: by the link of a QR code, or by a code that is typed. */

import { useRef, useState } from "preact/hooks";
import { entered } from "./form.ts";
import { useApp, useTask } from "./hooks.ts";
import { Field, Problem } from "./parts.tsx";
import { NameField } from "./relay-form.tsx";
import { explain } from "./session.ts";

export function JoinForm(props: { readonly link: string | undefined; readonly done: () => void }) {
  const { session } = useApp();
  const task = useTask(explain);
  const [text, setText] = useState(props.link ?? "");
  const [words, setWords] = useState<readonly string[]>();
  const stop = useRef<AbortController | undefined>(undefined);
  const isLink = text.includes("#");
  const submit = async (event: SubmitEvent): Promise<void> => {
    const said = entered(event);
    const stopping = new AbortController();
    stop.current = stopping;
    const ok = await task.run(async () => {
      const relay = isLink ? {} : { relay: said("relay") };
      await session.reopen({ name: said("name"), ...relay });
      await session.client.join(text.trim(), {
        onComparison: setWords,
        signal: stopping.signal,
      });
    });
    setWords(undefined);
    if (ok) props.done();
  };
  if (words !== undefined) {
    return (
      <div class="comparing" role="status">
        <p>Both devices show three words. If they are the same, confirm it on the other device.</p>
        <Words words={words} />
        <p class="hint">Other words over there? Refuse it there: somebody is in between.</p>
        <button type="button" onClick={() => stop.current?.abort(new Error("You called it off."))}>
          Cancel
        </button>
      </div>
    );
  }
  return (
    <form onSubmit={(event) => void submit(event)}>
      <p class="hint">
        On a device that has the book, open <b>Devices</b> and choose <b>Add a device</b>. Scan the
        QR code with this device's camera, or type the code.
      </p>
      <Field label="Link or code">
        <input
          name="code"
          required
          value={text}
          placeholder="XXXX-XXXX-XXXX-XXXX"
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </Field>
      {isLink ? null : (
        <Field label="Relay address" hint="The other device shows it under the code.">
          <input
            name="relay"
            required
            placeholder="wss://sync.example.com/#…"
            autocomplete="off"
            spellcheck={false}
          />
        </Field>
      )}
      <NameField />
      <Problem text={task.error} />
      <button type="submit" class="primary" disabled={task.busy}>
        {task.busy ? "Looking for the other device…" : "Join"}
      </button>
    </form>
  );
}

/** Words to compare. */
export function Words({ words }: { readonly words: readonly string[] }) {
  return (
    <ol class="words">
      {words.map((word, at) => (
        <li key={`${at} ${word}`}>{word}</li>
      ))}
    </ol>
  );
}
