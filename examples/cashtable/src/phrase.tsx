/** A recovery phrase: shown once, and counted only once some of its words were typed again. */

import { useEffect, useRef, useState } from "preact/hooks";
import { entered } from "./form.ts";
import { useApp, useTask } from "./hooks.ts";
import { Dialog, Field, Problem } from "./parts.tsx";
import { explain } from "./session.ts";

const askedCount = 3;

export function NewPhrase(props: { readonly replace: boolean; readonly close: () => void }) {
  const { session } = useApp();
  const task = useTask(explain);
  const [words, setWords] = useState<readonly string[]>();
  const [asking, setAsking] = useState(false);
  const [confirmed, setConfirmed] = useState(false);
  const [places] = useState(choose);
  const made = useRef<{ confirmed: boolean } | undefined>(undefined);
  const make = (): void =>
    void task.run(async () => {
      const phrase = await session.client.createRecoveryPhrase({ replace: props.replace });
      made.current = { confirmed: false };
      setWords(phrase.words);
    });
  // Nobody has seen to it that this one was written down: it must not stand there as if somebody had.
  useEffect(
    () => () => {
      if (made.current?.confirmed === false) {
        session.client.revokeRecoveryPhrase().catch(() => undefined);
      }
    },
    [session],
  );
  const check = (event: SubmitEvent): void => {
    const said = entered(event);
    const wrong = places.filter(
      (place) => said(`word ${place}`).trim().toLowerCase() !== words?.[place - 1],
    );
    if (wrong.length > 0) {
      task.setError(`Not so: look at word ${wrong.join(" and ")} again.`);
      return;
    }
    if (made.current !== undefined) made.current.confirmed = true;
    setWords(undefined);
    setConfirmed(true);
  };
  return (
    <Dialog title="Recovery phrase" close={props.close} wide>
      {confirmed ? (
        <div class="comparing">
          <p role="status">The phrase is confirmed. Keep the paper where you would keep cash.</p>
          <button type="button" class="primary" autofocus onClick={props.close}>
            Done
          </button>
        </div>
      ) : words === undefined ? (
        <>
          <p>
            You will see twenty-four words, once. Write them on paper: they are kept nowhere, and
            whoever has them can bring the book back onto a new device, and read it.
          </p>
          {props.replace ? <p>The phrase you have now stops working.</p> : null}
          <Problem text={task.error} />
          <footer>
            <span class="space" />
            <button type="button" onClick={props.close}>
              Cancel
            </button>
            <button type="button" class="primary" disabled={task.busy} onClick={make}>
              {task.busy ? "Making it…" : "Show the words"}
            </button>
          </footer>
        </>
      ) : asking ? (
        <form onSubmit={check}>
          <p>Type these words from your paper.</p>
          <div class="asked">
            {places.map((place, at) => (
              <Field key={place} label={`Word ${place}`}>
                <input
                  name={`word ${place}`}
                  required
                  autofocus={at === 0}
                  autocomplete="off"
                  spellcheck={false}
                />
              </Field>
            ))}
          </div>
          <Problem text={task.error} />
          <footer>
            <button type="button" onClick={() => setAsking(false)}>
              Show them again
            </button>
            <span class="space" />
            <button type="submit" class="primary">
              Confirm
            </button>
          </footer>
        </form>
      ) : (
        <>
          <ol class="phrase-words">
            {words.map((word, at) => (
              <li key={`${at} ${word}`}>{word}</li>
            ))}
          </ol>
          <p class="hint">
            Closing this now withdraws the phrase: it does not count until you have confirmed it.
          </p>
          <footer>
            <span class="space" />
            <button type="button" class="primary" onClick={() => setAsking(true)}>
              I have written them down
            </button>
          </footer>
        </>
      )}
    </Dialog>
  );
}

/** Which words are asked for, in their order. */
function choose(): number[] {
  const places = new Set<number>();
  while (places.size < askedCount) {
    places.add(1 + ((crypto.getRandomValues(new Uint8Array(1))[0] ?? 0) % 24));
  }
  return [...places].toSorted((a, b) => a - b);
}
