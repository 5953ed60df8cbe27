import { render } from "preact";
import { Main } from "./app.tsx";
import { AppContext } from "./hooks.ts";
import { Receipts } from "./receipts.ts";
import { explain, inTauri, pairingOrigin, Session } from "./session.ts";

/** A pairing link that this page was opened by. It holds a secret: it does not stay in the address. */
function takeLink(): string | undefined {
  const { href, hash } = location;
  if (
    pairingOrigin === undefined ||
    !href.startsWith(`${pairingOrigin}#`) ||
    hash.startsWith("#/")
  ) {
    return undefined;
  }
  history.replaceState(null, "", location.pathname);
  return href;
}

async function start(root: HTMLElement): Promise<void> {
  const link = takeLink();
  const session = await Session.open();
  const receipts = await Receipts.open(session.doc, () => session.client);
  const upload = (): void => void receipts.upload();
  let off = session.client.on("status", upload);
  session.subscribe(() => {
    off();
    off = session.client.on("status", upload);
  });
  // What is not stored when the page goes is stored now.
  addEventListener("pagehide", () => void session.provider.settled());
  render(
    <AppContext.Provider value={{ session, receipts }}>
      <Main link={link} />
    </AppContext.Provider>,
    root,
  );
}

/** The one script whose address is given in code: the policy of the page trusts no other. */
function offlineScript(): string {
  const url = "./offline.js";
  const { trustedTypes } = globalThis as {
    trustedTypes?: {
      createPolicy(
        name: string,
        rules: { createScriptURL(text: string): string },
      ): { createScriptURL(text: string): string };
    };
  };
  const policy = trustedTypes?.createPolicy("offline", { createScriptURL: () => url });
  return policy?.createScriptURL(url) ?? url;
}

/** Keeps the page itself, for when it is opened without a network. */
async function keepPage(): Promise<void> {
  if (inTauri || !("serviceWorker" in navigator) || !import.meta.env.PROD) return;
  await navigator.serviceWorker.register(offlineScript());
  const files = [...document.querySelectorAll("script[src], link[href]")].map((each) =>
    each instanceof HTMLScriptElement ? each.src : (each as HTMLLinkElement).href,
  );
  const cache = await caches.open("cashtable");
  await cache.addAll([location.pathname, ...files]);
}

const root = document.getElementById("app");
if (root !== null) {
  start(root).catch((error: unknown) => {
    render(
      <main class="failed">
        <h1>Cashtable cannot open the book</h1>
        <p>{explain(error)}</p>
        <button type="button" onClick={() => location.reload()}>
          Try again
        </button>
      </main>,
      root,
    );
  });
}
// Without it everything works but opening the page offline.
keepPage().catch(() => undefined);
