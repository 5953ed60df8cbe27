/** The devices that have the book, how it stands with them, and what was found wrong. */

import { useState } from "preact/hooks";
import type { DeviceInfo, FindingInfo } from "sync-relay/client";
import { entered } from "./form.ts";
import { useApp, useStanding, useTask } from "./hooks.ts";
import { AddDevice } from "./inviting.tsx";
import { JoinForm } from "./joining.tsx";
import { Dialog, Icon, Problem } from "./parts.tsx";
import { NewPhrase } from "./phrase.tsx";
import { foundGroup, RelayFields } from "./relay-form.tsx";
import { explain } from "./session.ts";
import { tell } from "./sync-status.tsx";

type Open = "add" | "phrase" | { readonly remove: DeviceInfo };

export function Devices() {
  const standing = useStanding();
  const { status, devices, findings } = standing;
  const [open, setOpen] = useState<Open>();
  const close = (): void => setOpen(undefined);
  const told = tell(standing);
  if (status.membership === "removed") return <Removed />;
  if (status.membership !== "member") return <Alone />;
  const active = devices.filter(({ role }) => role === "device");
  const paper = devices.filter(({ role }) => role === "paper");
  return (
    <>
      <div class="tools">
        <h1>Devices</h1>
        <span class="space" />
        <button type="button" class="primary" onClick={() => setOpen("add")}>
          <Icon name="plus" />
          Add a device
        </button>
      </div>
      <section class={`card standing ${told.tone}`}>
        <h2>
          <span class="dot" aria-hidden="true" /> {told.word}
        </h2>
        <p>{told.more}</p>
        <dl>
          <div>
            <dt>Only on this device</dt>
            <dd>{status.queued + standing.unqueued}</dd>
          </div>
          <div>
            <dt>Last in sync</dt>
            <dd>
              {status.lastSyncMs === undefined
                ? "not since it was opened"
                : timeOf(status.lastSyncMs)}
            </dd>
          </div>
          <div>
            <dt>Relay</dt>
            <dd class="address">{status.relay?.replace(/\/?#.*/u, "")}</dd>
          </div>
        </dl>
      </section>
      <Findings findings={findings} devices={devices} refused={status.refused} />
      <ul class="devices">
        {active.map((device) => (
          <DeviceLine
            key={device.deviceId}
            device={device}
            readCursor={status.readCursor}
            remove={() => setOpen({ remove: device })}
          />
        ))}
      </ul>
      <section class="card phrase">
        <h2>Recovery phrase</h2>
        <p>
          {paper.length === 0
            ? "If all devices are lost, so is the book. Twenty-four words on paper bring it back."
            : "There is a phrase on paper. Whoever has it can bring the book back, and read it."}
        </p>
        <button type="button" onClick={() => setOpen("phrase")}>
          {paper.length === 0 ? "Make a recovery phrase" : "Replace it"}
        </button>
      </section>
      {open === "add" ? <AddDevice close={close} /> : null}
      {open === "phrase" ? <NewPhrase replace={paper.length > 0} close={close} /> : null}
      {typeof open === "object" ? <Remove device={open.remove} close={close} /> : null}
    </>
  );
}

function DeviceLine(props: {
  readonly device: DeviceInfo;
  readonly readCursor: number;
  readonly remove: () => void;
}) {
  const { device, readCursor } = props;
  const { applied, lastSeenMs, presence, self } = device;
  const behind = applied === undefined ? undefined : Math.max(0, readCursor - applied.cursor);
  return (
    <li class="card">
      <h3>
        {device.name} {self ? <span class="chip">this device</span> : null}
        {device.refusedByRelay ? <span class="chip bad">refused by the relay</span> : null}
      </h3>
      <p>
        <span class={`presence ${presence}`}>{presence}</span>
        {presence !== "online" && lastSeenMs !== undefined ? ` · seen ${timeOf(lastSeenMs)}` : ""}
        {self || applied === undefined || behind === undefined
          ? ""
          : ` · ${behind === 0 ? "has everything" : `${behind} ${behind === 1 ? "entry" : "entries"} behind`}, as it signed ${timeOf(applied.madeMs)}`}
      </p>
      <p class="fingerprint" title="What people compare to be sure of a device">
        {device.fingerprint}
      </p>
      {self ? null : (
        <button type="button" class="quiet" onClick={props.remove}>
          Remove <span class="unseen">{device.name}</span>
        </button>
      )}
    </li>
  );
}

function Findings(props: {
  readonly findings: readonly FindingInfo[];
  readonly devices: readonly DeviceInfo[];
  readonly refused: number;
}) {
  const { session } = useApp();
  const task = useTask(explain);
  const { findings, devices, refused } = props;
  if (findings.length === 0 && refused === 0) {
    return (
      <p class="hint checked">
        Every entry was checked against what its device signed. Nothing is missing and nothing was
        altered, as far as this device has read.
      </p>
    );
  }
  const who = (id: string | undefined): string =>
    id === undefined
      ? ""
      : (devices.find(({ deviceId }) => deviceId === id)?.name ?? "a former device");
  return (
    <section class="card findings" aria-label="What was found wrong">
      <h2>What was found wrong</h2>
      <p>
        Nothing of it was taken into the book. The relay, or whoever has it, may have changed what
        it keeps; it may also have been restored from an old backup.
        {refused > 0 ? ` ${refused} entries were refused.` : ""}
      </p>
      <ul>
        {findings.map((finding) => (
          <li key={finding.id} class={finding.state}>
            <p>
              <strong>{sentence(finding.means)}</strong>
            </p>
            <p class="hint">
              {who(finding.sender) === "" ? "" : `Written by ${who(finding.sender)} · `}
              {timeOf(finding.foundMs)} · {states[finding.state]}
              {finding.state === "open" && finding.holds
                ? " · later entries of that device wait"
                : ""}
            </p>
            {finding.state === "open" ? (
              <button
                type="button"
                disabled={task.busy}
                onClick={() => void task.run(() => session.client.acceptFinding(finding.id))}
              >
                I know about it, go on
              </button>
            ) : null}
          </li>
        ))}
      </ul>
      <Problem text={task.error} />
    </section>
  );
}

const states = { open: "open", healed: "made good", accepted: "accepted by you" } as const;

function Remove(props: { readonly device: DeviceInfo; readonly close: () => void }) {
  const { session } = useApp();
  const task = useTask(explain);
  const { device, close } = props;
  const remove = async (): Promise<void> => {
    if (await task.run(() => session.client.remove([device.deviceId]))) close();
  };
  return (
    <Dialog title={`Remove ${device.name}?`} close={close}>
      <p>
        It gets nothing that is written from now on, and nothing it writes is taken. What it has
        already stays on it. A device cannot be let in again; it can join as a new one.
      </p>
      <Problem text={task.error} />
      <footer>
        <span class="space" />
        <button type="button" autofocus onClick={close}>
          Cancel
        </button>
        <button type="button" class="danger" disabled={task.busy} onClick={() => void remove()}>
          {task.busy ? "Removing…" : "Remove"}
        </button>
      </footer>
    </Dialog>
  );
}

/** In no group yet, with a book. */
function Alone() {
  const { session } = useApp();
  const { status } = useStanding();
  const task = useTask(explain);
  const [way, setWay] = useState<"found" | "join">("found");
  const found = (event: SubmitEvent): void => {
    const said = entered(event);
    void task.run(() => foundGroup(session, said));
  };
  return (
    <>
      <h1>Devices</h1>
      <section class="card">
        <h2>Only on this device</h2>
        <p>
          The book is nowhere else. With a relay it syncs to your other devices, sealed, so that the
          relay cannot read it.
        </p>
        <fieldset class="switch">
          <legend class="unseen">How</legend>
          <label>
            <input
              type="radio"
              name="way"
              checked={way === "found"}
              onChange={() => setWay("found")}
            />
            <span>Be the first</span>
          </label>
          <label>
            <input
              type="radio"
              name="way"
              checked={way === "join"}
              onChange={() => setWay("join")}
            />
            <span>Join another</span>
          </label>
        </fieldset>
        {way === "join" ? (
          <JoinForm link={undefined} done={() => undefined} />
        ) : (
          <form onSubmit={found}>
            <RelayFields />
            <Problem text={task.error} />
            <button
              type="submit"
              class="primary"
              disabled={task.busy || status.membership === "founding"}
            >
              {task.busy ? "Founding the group…" : "Sync"}
            </button>
          </form>
        )}
      </section>
    </>
  );
}

function Removed() {
  const { session } = useApp();
  const task = useTask(explain);
  return (
    <>
      <h1>Devices</h1>
      <section class="card">
        <h2>This device was removed</h2>
        <p>
          Somebody took it out of the group, on another device. The book as it was then is still
          here. What is entered here stays here.
        </p>
        <p>
          To sync again it joins as a new device: another one has to let it in. What was entered
          here meanwhile goes to the others then.
        </p>
        <Problem text={task.error} />
        <button
          type="button"
          class="primary"
          disabled={task.busy}
          onClick={() => void task.run(() => session.beginAnew())}
        >
          Become a new device
        </button>
      </section>
    </>
  );
}

function timeOf(ms: number): string {
  return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(ms);
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
