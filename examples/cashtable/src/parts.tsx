/** Small things that screens are made of. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import { encode } from "uqr";
import { formatAmount } from "./money.ts";

/** A dialog over the page. Escape and the cross close it, unless it must be answered. */
export function Dialog(props: {
  readonly title: string;
  readonly close: () => void;
  readonly children: ComponentChildren;
  readonly wide?: boolean;
}) {
  const ref = useRef<HTMLDialogElement>(null);
  const title = useId();
  useEffect(() => {
    const dialog = ref.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  return (
    <dialog
      ref={ref}
      class={props.wide === true ? "wide" : ""}
      aria-labelledby={title}
      onCancel={(event) => {
        event.preventDefault();
        props.close();
      }}
    >
      <header>
        <h2 id={title}>{props.title}</h2>
        <button type="button" class="quiet cross" aria-label="Close" onClick={props.close}>
          <Icon name="cross" />
        </button>
      </header>
      {props.children}
    </dialog>
  );
}

export function Field(props: {
  readonly label: string;
  readonly children: ComponentChildren;
  readonly hint?: string;
  readonly class?: string;
}) {
  return (
    <label class={`field ${props.class ?? ""}`}>
      <span>{props.label}</span>
      {props.children}
      {props.hint === undefined ? null : <small>{props.hint}</small>}
    </label>
  );
}

export function Problem(props: { readonly text: string | undefined }) {
  return (
    <p class="problem" role="alert" hidden={props.text === undefined}>
      {props.text}
    </p>
  );
}

/** An amount, coloured by its sign, which is said too. */
export function Amount(props: {
  readonly value: number;
  readonly currency: string;
  readonly sign?: boolean;
}) {
  const { value, currency, sign = false } = props;
  const tone = value < 0 ? "minus" : "plus";
  return <span class={`amount ${tone}`}>{formatAmount(value, currency, { sign })}</span>;
}

/** A QR code, drawn as one path. Always dark on light, or cameras do not see it. */
export function QrCode(props: { readonly text: string; readonly label: string }) {
  const { data, size } = encode(props.text, { ecc: "M", border: 2 });
  const squares = data.flatMap((row, y) =>
    row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])),
  );
  return (
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label={props.label}>
      <path d={squares.join("")} />
    </svg>
  );
}

const icons = {
  plus: "M12 5v14M5 12h14",
  cross: "M6 6l12 12M18 6L6 18",
  left: "M14.5 5l-7 7 7 7",
  right: "M9.5 5l7 7-7 7",
  clip: "M19 11.5l-7.2 7.2a4.2 4.2 0 0 1-6-6l7.6-7.5a2.8 2.8 0 0 1 4 4l-7.5 7.4a1.3 1.3 0 0 1-1.9-1.9l6.7-6.6",
  transactions: "M4 7h16M4 12h16M4 17h9",
  overview: "M5 20V11M12 20V4M19 20v-6",
  accounts: "M3.5 8.5h17v10h-17zM3.5 8.5l12-4v4M16 13.5h1.5",
  devices: "M3.5 5.5h12v9h-12zM2 18h11M15.5 9.5h5v9h-5z",
} as const;

export function Icon(props: { readonly name: keyof typeof icons }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={icons[props.name]} />
    </svg>
  );
}
