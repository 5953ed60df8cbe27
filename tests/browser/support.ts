/** A real relay with its status page, and a browser before it. */
import type { TestContext } from "node:test";
import type { Page } from "playwright-core";
import type { Scope } from "../../server/admin/tokens.ts";
import { readToken } from "../../server/admin/tokens.ts";
import { freePort, TestRelay } from "../integration/support.ts";
import { type OpenPage, openPage } from "./chromium.ts";

export interface World extends OpenPage {
  readonly relay: TestRelay;
  readonly token: string;
}

/** A relay and its status page, before anybody is in. */
export async function open(
  t: TestContext,
  options: Parameters<typeof openPage>[1] & { readonly scope?: Scope } = {},
): Promise<World> {
  const relay = await TestRelay.start(t, {
    // Chosen here, so that the relay has it again when it comes back.
    listenAdmin: `127.0.0.1:${await freePort()}`,
  });
  const token = (await readToken(relay.data, options.scope ?? "admin")) ?? "";
  const opened = await openPage(t, options);
  await opened.page.goto(`${relay.running.adminUrl ?? ""}/`);
  return { ...opened, relay, token };
}

export async function logIn(page: Page, token: string): Promise<void> {
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Show the relay" }).click();
  await page.locator('#app[data-loaded="true"]').waitFor();
}

/** Waits until an element's text fulfils something. */
export async function becomes(page: Page, selector: string, pattern: RegExp): Promise<void> {
  await page.locator(selector).filter({ hasText: pattern }).first().waitFor();
}
