/** The frame: where one is, how it stands, and the screen in the middle. */
import { useEffect, useState } from "preact/hooks";
import { Accounts } from "./accounts.tsx";
import { Mark } from "./app-mark.tsx";
import { Devices } from "./devices.tsx";
import { type Place, places, useApp, useLedger, usePlace, useStanding } from "./hooks.ts";
import { hasBook } from "./model.ts";
import { Overview } from "./overview.tsx";
import { Amount, Icon } from "./parts.tsx";
import { Start } from "./start.tsx";
import { Banner, SyncWord } from "./sync-status.tsx";
import { Transactions } from "./transactions.tsx";

const titles: Readonly<Record<Place, string>> = {
  transactions: "Transactions",
  overview: "Overview",
  accounts: "Accounts",
  devices: "Devices",
};

export function Main(props: { readonly link: string | undefined }) {
  const { session } = useApp();
  const ledger = useLedger();
  const { status } = useStanding();
  const [link, setLink] = useState(props.link);
  // Until somebody has chosen: a book that comes with a group arrives by itself.
  const [entered, setEntered] = useState(false);
  const outside = status.membership === "none" || status.membership === "founding";
  if ((link !== undefined && outside) || (!hasBook(session.doc) && (outside || !entered))) {
    return (
      <Start
        link={link}
        done={() => {
          setLink(undefined);
          setEntered(true);
        }}
      />
    );
  }
  return <Frame key="frame" total={ledger.total} currency={ledger.currency} />;
}

function Frame({ total, currency }: { readonly total: number; readonly currency: string }) {
  const place = usePlace();
  useEffect(() => {
    document.title = `${titles[place]} · Cashtable`;
  }, [place]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={focusMain}>
        Skip to the content
      </a>
      <header class="top">
        <a class="mark" href="#/transactions">
          <Mark />
          Cashtable
        </a>
        <nav aria-label="Main">
          {places.map((each) => (
            <a key={each} href={`#/${each}`} aria-current={each === place ? "page" : undefined}>
              <Icon name={each} />
              {titles[each]}
            </a>
          ))}
        </nav>
        <div class="corner">
          <p class="total">
            <span>All accounts</span>
            <Amount value={total} currency={currency} />
          </p>
          <SyncWord />
        </div>
      </header>
      <Banner />
      <main id="main" tabIndex={-1}>
        {place === "transactions" && <Transactions />}
        {place === "overview" && <Overview />}
        {place === "accounts" && <Accounts />}
        {place === "devices" && <Devices />}
      </main>
    </div>
  );
}

function focusMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
