/** What is asked of a device before it comes into a group. */
import type { Entered } from "./form.ts";
import { Field } from "./parts.tsx";
import type { Session } from "./session.ts";

/** What a device is called unless somebody says otherwise. */
export function deviceName(): string {
  const { userAgent } = navigator;
  if (/iPhone|Android.*Mobile/u.test(userAgent)) return "Phone";
  if (/iPad|Android/u.test(userAgent)) return "Tablet";
  return "Laptop";
}

/** A relay, the invite it asks for, and this device's name. */
export function RelayFields() {
  return (
    <>
      <Field
        label="Relay address"
        hint="Starts with wss:// or ws:// and ends with the relay's key."
      >
        <input
          name="relay"
          required
          placeholder="wss://sync.example.com/#…"
          autocomplete="off"
          spellcheck={false}
        />
      </Field>
      <Field
        label="Invite"
        hint="The relay's operator hands it out. Leave it empty where none is needed."
      >
        <input name="invite" autocomplete="off" spellcheck={false} />
      </Field>
      <NameField />
    </>
  );
}

export function NameField() {
  return (
    <Field label="Name of this device">
      <input name="name" required maxLength={40} defaultValue={deviceName()} />
    </Field>
  );
}

/** Founds a group with what a form says. */
export async function foundGroup(session: Session, said: Entered): Promise<void> {
  await session.reopen({ relay: said("relay"), name: said("name") });
  const invite = said("invite");
  await session.client.createGroup(invite === "" ? {} : { invite });
}
