/** What screens are drawn from: the session, the book, the status, the place in the app. */
import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";
import type { DeviceInfo, FindingInfo, Status } from "sync-relay/client";
import { type Ledger, readLedger } from "./ledger.ts";
import type { Receipts } from "./receipts.ts";
import type { Session } from "./session.ts";

export interface App {
  readonly session: Session;
  readonly receipts: Receipts;
}

export const AppContext = createContext<App | undefined>(undefined);

export function useApp(): App {
  const app = useContext(AppContext);
  if (app === undefined) throw new Error("outside of the app");
  return app;
}

/** The book, as it is now. Worked out once a frame, however many entries come. */
export function useLedger(): Ledger {
  const { doc } = useApp().session;
  const [ledger, setLedger] = useState(() => readLedger(doc));
  useEffect(() => {
    let frame = 0;
    const changed = (): void => {
      if (frame !== 0) return;
      frame = requestAnimationFrame(() => {
        frame = 0;
        setLedger(readLedger(doc));
      });
    };
    doc.on("update", changed);
    changed();
    return () => {
      doc.off("update", changed);
      cancelAnimationFrame(frame);
    };
  }, [doc]);
  return ledger;
}

/** How the device stands. */
export interface Standing {
  readonly status: Status;
  readonly devices: readonly DeviceInfo[];
  readonly findings: readonly FindingInfo[];
  /** What stands in the book's store only. */
  readonly unqueued: number;
  readonly problem: string | undefined;
}

export function useStanding(): Standing {
  const { session } = useApp();
  const read = (): Standing => ({
    status: session.client.status(),
    devices: session.client.devices(),
    findings: session.client.findings(),
    unqueued: session.provider.unqueued,
    problem: session.problem,
  });
  const [standing, setStanding] = useState(read);
  useEffect(() => {
    const changed = (): void => setStanding(read());
    let offs: (() => void)[] = [];
    const listen = (): void => {
      for (const off of offs) off();
      offs = (["status", "membership", "presence", "integrity"] as const).map((event) =>
        session.client.on(event, changed),
      );
      changed();
    };
    listen();
    const off = session.subscribe(listen);
    session.doc.on("update", changed);
    return () => {
      off();
      session.doc.off("update", changed);
      for (const each of offs) each();
    };
  }, [session]);
  return standing;
}

export const places = ["transactions", "overview", "accounts", "devices"] as const;
export type Place = (typeof places)[number];

function placeNow(): Place {
  const name = location.hash.replace(/^#\//u, "");
  return places.find((place) => place === name) ?? "transactions";
}

/** Where in the app this is: the address says it, so that going back works. */
export function usePlace(): Place {
  const [place, setPlace] = useState(placeNow);
  useEffect(() => {
    const changed = (): void => setPlace(placeNow());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return place;
}

/** Runs something that takes a while: whether it runs, and what went wrong. */
export function useTask(explain: (error: unknown) => string) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<string>();
  return {
    busy,
    error,
    setError,
    run: async (work: () => Promise<void>): Promise<boolean> => {
      setBusy(true);
      setError(undefined);
      try {
        await work();
        return true;
      } catch (caught) {
        setError(explain(caught));
        return false;
      } finally {
        setBusy(false);
      }
    },
  };
}
