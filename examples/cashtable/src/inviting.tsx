/** Another device is let in: a QR code and a code, then three words that must be the same on both. */
import { useEffect, useState } from "preact/hooks";
import type { DeviceInfo, Invite, JoinerInfo } from "sync-relay/client";
import { useApp, useStanding } from "./hooks.ts";
import { Words } from "./joining.tsx";
import { Dialog, Problem, QrCode } from "./parts.tsx";
import { explain } from "./session.ts";

interface Asked {
  readonly joiner: JoinerInfo;
  readonly answer: (yes: boolean) => void;
}

export function AddDevice({ close }: { readonly close: () => void }) {
  const { session } = useApp();
  const { status } = useStanding();
  const [invite, setInvite] = useState<Invite>();
  const [asked, setAsked] = useState<Asked>();
  const [letIn, setLetIn] = useState(false);
  const [joined, setJoined] = useState<DeviceInfo>();
  const [error, setError] = useState<string>();
  useEffect(() => {
    let opened: Invite | undefined;
    let over = false;
    const open = async (): Promise<void> => {
      opened = await session.client.invite({
        confirm: (joiner) => new Promise<boolean>((answer) => setAsked({ joiner, answer })),
      });
      if (over) {
        await opened.cancel();
        return;
      }
      setInvite(opened);
      setJoined(await opened.done);
    };
    open().catch((caught: unknown) => {
      if (!over) setError(explain(caught));
    });
    return () => {
      over = true;
      opened?.cancel().catch(() => undefined);
    };
  }, [session]);
  const answer = (yes: boolean): void => {
    asked?.answer(yes);
    setLetIn(yes);
    setAsked(undefined);
    if (!yes)
      setError(
        "Refused: nobody was let in. Close this, and begin anew where you want to try again.",
      );
  };
  return (
    <Dialog title="Add a device" close={close}>
      {error === undefined ? null : <Problem text={error} />}
      {joined !== undefined ? (
        <div class="comparing">
          <p role="status">
            <strong>{joined.name}</strong> is in. The book is on its way.
          </p>
          <button type="button" class="primary" autofocus onClick={close}>
            Done
          </button>
        </div>
      ) : asked !== undefined ? (
        <div class="comparing">
          <p role="status">
            <strong>{asked.joiner.name}</strong> wants to join. Does it show the same three words?
          </p>
          <Words words={asked.joiner.comparison} />
          <footer>
            <button type="button" class="danger" onClick={() => answer(false)}>
              No, refuse
            </button>
            <span class="space" />
            <button type="button" class="primary" onClick={() => answer(true)}>
              The same: let it in
            </button>
          </footer>
        </div>
      ) : letIn ? (
        <p role="status">Letting it in…</p>
      ) : invite !== undefined && error === undefined ? (
        <div class="invite">
          <QrCode text={invite.link} label="QR code of the pairing link" />
          <div>
            <p>Scan it with the other device's camera, or open the link there:</p>
            <CopyLink link={invite.link} />
            <p>Or type the code there, under “Add this device”:</p>
            <p class="code">{invite.code}</p>
            <p class="hint">
              with the relay address
              <span class="address">{status.relay}</span>
            </p>
            <p class="hint">
              It holds for ten minutes, until {new Date(invite.expiresAtMs).toLocaleTimeString()},
              and for one device.
            </p>
          </div>
        </div>
      ) : error === undefined ? (
        <p role="status">Opening an invite…</p>
      ) : null}
    </Dialog>
  );
}

function CopyLink({ link }: { readonly link: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async (): Promise<void> => {
    // On plain HTTP there is no clipboard: the link is shown, to be copied by hand.
    await navigator.clipboard?.writeText(link).catch(() => undefined);
    setCopied(true);
  };
  return copied ? (
    <input
      class="link"
      readOnly
      value={link}
      aria-label="Link to copy"
      onFocus={(event) => event.currentTarget.select()}
    />
  ) : (
    <button type="button" onClick={() => void copy()}>
      Copy the link
    </button>
  );
}
