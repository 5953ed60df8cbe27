/**
 * The guide, followed literally: its commands are run and its files written as they stand in docs/CLIENT.md.
 * Only what it cannot know is put in its place: the package is the one of this checkout, as npm packs it,
 * and the page is served at a port that is free.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Page } from "playwright-core";
import { freePort, TestRelay, testFolder } from "../integration/support.ts";
import { newContext, skip } from "./chromium.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

type Step =
  | { readonly kind: "command"; readonly words: readonly string[] }
  | { readonly kind: "file"; readonly name: string; readonly text: string };

/** The steps of a section, in their order. A file's name stands in the line before it. */
function stepsOf(section: string): Step[] {
  const guide = readFileSync(join(root, "docs/CLIENT.md"), "utf8");
  const text = guide.split(/^## /m).find((part) => part.startsWith(section));
  assert.ok(text, `docs/CLIENT.md has a section ${section}`);
  const steps: Step[] = [];
  for (const [, name, language, body] of text.matchAll(
    /(?:^`([\w.]+)`:\n\n)?^```(\w+)\n([\s\S]*?)^```$/gm,
  )) {
    if (language === "sh") {
      for (const line of (body ?? "").split("\n").filter(Boolean)) {
        steps.push({ kind: "command", words: line.split(" ") });
      }
    } else {
      assert.ok(name, `a block of ${language} has a name`);
      steps.push({ kind: "file", name, text: body ?? "" });
    }
  }
  return steps;
}

/** This package, as npm packs it. */
async function pack(folder: string): Promise<string> {
  if (!existsSync(join(root, "dist"))) await run("npm", ["run", "build"], { cwd: root });
  await run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: root });
  const [archive] = await readdir(folder);
  return join(folder, archive ?? "");
}

/** Ends what a command started, and what that started. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  process.kill(-child.pid, "SIGTERM");
  await gone;
}

/** Serves as a command says; resolves when the page is there. */
async function serve(t: TestContext, folder: string, words: readonly string[]): Promise<string> {
  const [command = "", ...args] = words;
  const port = await freePort();
  const child = spawn(
    command,
    [...args, "--host", "127.0.0.1", "--port", String(port), "--strictPort"],
    { cwd: folder, detached: true, stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => stop(child));
  await new Promise<void>((resolve, reject) => {
    let told = "";
    child.stdout.on("data", (text: Buffer) => {
      told += text.toString();
      if (told.includes(String(port))) resolve();
    });
    child.once("exit", () => reject(new Error(`${words.join(" ")} ended: ${told}`)));
  });
  return `http://127.0.0.1:${port}/`;
}

const notes = (page: Page): Promise<string[]> => page.locator("li").allTextContents();

test("the steps of the guide lead from npm init to two tabs in sync", { skip }, async (t) => {
  const relay = await TestRelay.start(t);
  const folder = await testFolder(t);
  const archive = await pack(await testFolder(t));
  let url = "";
  for (const step of stepsOf("From nothing to two tabs in sync")) {
    if (step.kind === "file") {
      await writeFile(join(folder, step.name), step.text);
    } else if (step.words.join(" ") === "npx vite") {
      url = await serve(t, folder, step.words);
    } else {
      const [command = "", ...words] = step.words;
      const args = words.map((word) => (word === "sync-relay" ? archive : word));
      // A page needs nothing that is compiled.
      await run(command, [...args, "--ignore-scripts", "--prefer-offline", "--no-audit"], {
        cwd: folder,
      });
    }
  }
  assert.notEqual(url, "");

  const context = await newContext(t);
  const problems: string[] = [];
  const open = async (): Promise<Page> => {
    const page = await context.newPage();
    page.on("pageerror", (error) => {
      problems.push(String(error));
      t.diagnostic(String(error));
    });
    page.on("dialog", (dialog) =>
      dialog.accept(
        dialog.message().includes("address") ? relay.address : relay.running.firstInvite?.code,
      ),
    );
    await page.goto(url);
    return page;
  };
  const add = async (page: Page, note: string): Promise<void> => {
    await page.fill("input", note);
    await page.click("button");
  };
  const first = await open();
  await add(first, "one");
  await first.locator("li", { hasText: "one" }).waitFor();
  const second = await open();
  await add(second, "two");
  for (const page of [first, second]) await page.locator("li", { hasText: "two" }).waitFor();
  await add(first, "three");
  for (const page of [first, second]) await page.locator("li", { hasText: "three" }).waitFor();
  assert.deepEqual(await notes(first), ["one", "two", "three"]);
  assert.deepEqual(await notes(second), ["two", "three"]);
  assert.deepEqual(problems, []);
});
