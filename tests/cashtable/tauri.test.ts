/** The example as a Tauri app: its configuration against the schema of Tauri's own command line. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, "examples/cashtable/src-tauri");
const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));

const schema = read(createRequire(import.meta.url).resolve("@tauri-apps/cli/config.schema.json"));
// Number formats and the like are notes of the schema's generator.
const ajv = new Ajv({ strict: false, validateFormats: false, unicodeRegExp: false });
ajv.addSchema(schema, "tauri");
const problems = (of: string, value: unknown): unknown =>
  ajv.validate(`tauri${of}`, value) ? [] : ajv.errors;

const config = read(join(folder, "tauri.conf.json"));
const capability = read(join(folder, "capabilities/main.json"));

test("the configuration is what Tauri's command line takes, and a mistake in it is not", () => {
  assert.deepEqual(problems("", config), []);
  const mistaken = { ...config, app: { ...config.app, window: [] } };
  assert.notDeepEqual(problems("", mistaken), []);
});

test("the capability is one, and gives the window what closing it needs", () => {
  assert.deepEqual(problems("#/definitions/Capability", capability), []);
  assert.notDeepEqual(problems("#/definitions/Capability", { ...capability, permissions: 1 }), []);
  assert.deepEqual(config.app.security.capabilities, [capability.identifier]);
  assert.ok(capability.permissions.includes("core:window:allow-destroy"));
});

test("what it names is there, and says the same as what it comes from", () => {
  for (const icon of config.bundle.icon) assert.ok(existsSync(join(folder, icon)), icon);
  const own = read(join(root, "examples/cashtable/package.json"));
  const cargo = readFileSync(join(folder, "Cargo.toml"), "utf8");
  assert.equal(config.version, own.version);
  assert.ok(cargo.includes(`\nversion = "${own.version}"\n`));
  assert.match(readFileSync(join(folder, "src/main.rs"), "utf8"), /cashtable_lib::run\(\)/);
  assert.match(cargo, /name = "cashtable_lib"/);
});

test("the page may do in the app what it may do in a browser, and speak to the app", () => {
  const { csp } = config.app.security;
  const page = readFileSync(join(root, "examples/cashtable/vite.config.ts"), "utf8");
  for (const [directive, value] of Object.entries(csp as Record<string, string>)) {
    const own = value.replace(" ipc: http://ipc.localhost", "");
    assert.ok(page.includes(`"${directive} ${own}"`), `${directive} ${own}`);
  }
});

test("the example's versions are those the checkout installs", () => {
  const own = read(join(root, "examples/cashtable/package.json"));
  const checkout = read(join(root, "package.json"));
  const installed = { ...checkout.dependencies, ...checkout.devDependencies };
  for (const [name, version] of Object.entries({ ...own.dependencies, ...own.devDependencies })) {
    assert.equal(version, name === checkout.name ? checkout.version : installed[name], name);
  }
});
