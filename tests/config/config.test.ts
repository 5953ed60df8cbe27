/** The configuration from everywhere it may come from, and every mistake in it. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import fc from "fast-check";
import { FoundingPolicy } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import {
  ConfigError,
  changedSettings,
  originText,
  readConfig,
} from "../../server/config/config.ts";
import { nearest } from "../../server/config/nearest.ts";
import { Mistake, readText, readToml, settings } from "../../server/config/settings.ts";
import { defaultLimits, defaultOptions } from "../../server/options.ts";
import { blobBytesCeiling } from "../../wire/limits.ts";

const file = (text: string) => ({ file: { path: "relay.toml", text } });

function problemsOf(sources: Parameters<typeof readConfig>[0]): readonly string[] {
  try {
    readConfig(sources);
  } catch (error) {
    assert(error instanceof ConfigError, String(error));
    return error.problems;
  }
  return [];
}

test("without anything the schema's defaults hold, and they are the relay's own", () => {
  const { options, values, config } = readConfig({});
  assert.deepEqual(options, {
    ...defaultOptions,
    limits: defaultLimits,
    listenAdmin: "127.0.0.1:8081",
    adminPortFallback: true,
  });
  assert(values.every((value) => value.origin.kind === "default"));
  assert.equal(config.founding, FoundingPolicy.INVITE);
  assert.equal(config.limits?.groupBytesMax, 104_857_600n);
});

test("every setting can be set in the file, in the environment and by a flag, the later over the former", () => {
  const other = (setting: (typeof settings)[number]): string => {
    switch (setting.type) {
      case "number":
        return String(setting.min + 7);
      case "switch":
        return "true";
      case "list":
        return "10.0.0.0/8";
      case "choice":
        return setting.choices.find((choice) => choice !== setting.default) ?? "";
      case "text":
        if (setting.key.startsWith("listen")) return "127.0.0.1:9";
        if (setting.key.endsWith("token")) return "t".repeat(32);
        if (setting.key === "web_push.subject") return "mailto:operator@example.com";
        return setting.key === "data" ? "/elsewhere" : "wss://sync.example.com/";
    }
  };
  for (const setting of settings) {
    const text = other(setting);
    const literal =
      setting.type === "list"
        ? `["${text}"]`
        : setting.type === "number" || setting.type === "switch"
          ? text
          : `"${text}"`;
    const [table, name] = setting.key.includes(".") ? setting.key.split(".") : ["", setting.key];
    const toml = `${table === "" ? "" : `[${table}]\n`}${name} = ${literal}\n`;
    // Without it web push cannot be enabled.
    const besides =
      setting.key === "web_push.enabled"
        ? { SYNC_RELAY_WEB_PUSH_SUBJECT: "https://example.com/contact" }
        : {};
    const found = (sources: Parameters<typeof readConfig>[0]) =>
      readConfig({
        ...sources,
        environment: { ...sources.environment, ...besides },
      }).values.find((value) => value.setting === setting);
    const inFile = found(file(toml));
    assert.equal(
      originText(inFile?.origin ?? { kind: "default" }),
      `relay.toml:${table === "" ? 1 : 2}`,
    );
    const inEnvironment = found({ environment: { [setting.environment]: text } });
    assert.deepEqual(inEnvironment?.value, inFile?.value, setting.key);
    assert.deepEqual(inEnvironment?.origin, { kind: "environment", name: setting.environment });
    const byFlag = found({
      ...file(toml),
      environment: { [setting.environment]: text },
      flags: [{ name: "--set", key: setting.key, value: text }],
    });
    assert.deepEqual(byFlag?.value, inFile?.value);
    assert.deepEqual(byFlag?.origin, { kind: "flag", name: "--set" });
    assert.notDeepEqual(byFlag?.value, setting.default);
  }
});

test("every number has bounds that hold at both ends, in the file and in the environment", () => {
  for (const setting of settings.filter((each) => each.type === "number")) {
    assert(setting.max >= setting.min && setting.max > 0, setting.key);
    for (const value of [setting.min, setting.max]) {
      assert.equal(readText(setting, String(value)), value);
      assert.equal(readToml(setting, BigInt(value)), value);
    }
    for (const value of [setting.min - 1, setting.max + 1]) {
      assert(readText(setting, String(value)) instanceof Mistake, `${setting.key} ${value}`);
      assert(readToml(setting, BigInt(value)) instanceof Mistake, `${setting.key} ${value}`);
    }
    for (const text of ["", " 5", "5.5", "0x10", "1e3", "-1", "5MiB"]) {
      assert(readText(setting, text) instanceof Mistake, `${setting.key} ${text}`);
    }
    for (const value of [5.5, "5", true, [5n], Number.NaN]) {
      assert(readToml(setting, value) instanceof Mistake, setting.key);
    }
  }
  assert.equal(
    settings.find((each) => each.key === "limits.blob_bytes_max")?.max,
    blobBytesCeiling,
  );
});

const mistakes: readonly (readonly [string, string])[] = [
  ["lisen = 1", "relay.toml:1: lisen is no setting; did you mean listen?"],
  [
    "\n[limits]\nblob_byte_max = 5",
    "relay.toml:3: limits.blob_byte_max is no setting; did you mean limits.blob_bytes_max?",
  ],
  [
    "blob_bytes_max = 5",
    "relay.toml:1: blob_bytes_max is no setting; did you mean limits.blob_bytes_max?",
  ],
  ["[limit]\nx = 1", "relay.toml:2: limit.x is no setting"],
  ["limits = 5", "relay.toml:1: limits must be a table: write [limits]"],
  [
    "[limits]\nsessions_max = 0",
    "relay.toml:2: limits.sessions_max must be a whole number from 1 to 1,000,000",
  ],
  [
    '[limits]\n\nsessions_max = "many"',
    "relay.toml:3: limits.sessions_max must be a whole number from 1 to 1,000,000",
  ],
  ['founding = "nobody"', "relay.toml:1: founding must be one of open, invite, closed"],
  ["log_level = true", "relay.toml:1: log_level must be one of debug, info, warn, error, silent"],
  ['listen = "8080"', "relay.toml:1: listen must be HOST:PORT, as 127.0.0.1:8080 or [::1]:8080"],
  ['listen = "off"', "relay.toml:1: listen must be HOST:PORT, as 127.0.0.1:8080 or [::1]:8080"],
  ['listen = "a:70000"', "relay.toml:1: listen must be HOST:PORT, as 127.0.0.1:8080 or [::1]:8080"],
  [
    'public_url = "https://x/"',
    "relay.toml:1: public_url must be an address like wss://sync.example.com/, or empty",
  ],
  [
    'trusted_proxies = "10.0.0.0/8"',
    'relay.toml:1: trusted_proxies must be a list of texts, as ["127.0.0.1/32"]',
  ],
  [
    'trusted_proxies = ["10.0.0.0/33"]',
    "relay.toml:1: trusted_proxies must be an address or a range, as 10.0.0.0/8 or fd00::/8",
  ],
  [
    'admin_token = "short"',
    "relay.toml:1: admin_token must be empty, or 32 to 128 characters of A-Z a-z 0-9 . _ ~ -",
  ],
  ['admin_without_token = "yes"', "relay.toml:1: admin_without_token must be true or false"],
  ['data = ""', "relay.toml:1: data must be the path of a folder"],
  ["listen = ", "relay.toml:1: not TOML: invalid value"],
  [
    'listen = "a:1"\nlisten = "b:1"',
    "relay.toml:2: not TOML: trying to redefine an already defined table or value",
  ],
];

for (const [text, problem] of mistakes) {
  test(`a mistake names line, key and what was meant: ${problem}`, () => {
    assert.deepEqual(problemsOf(file(text)), [problem]);
  });
}

test("all mistakes are told at once, each where it is", () => {
  assert.deepEqual(
    problemsOf({
      ...file("lisen = 1\n[limits]\nsessions_max = 0"),
      environment: { SYNC_RELAY_FOUNDING: "x" },
      flags: [
        { name: "--listen", key: "listen", value: "x" },
        { name: "--set", key: "nothing.at_all", value: "1" },
        { name: "--set", key: "limits.handshake_ms_max", value: "1" },
      ],
    }),
    [
      "relay.toml:1: lisen is no setting; did you mean listen?",
      "relay.toml:3: limits.sessions_max must be a whole number from 1 to 1,000,000",
      "SYNC_RELAY_FOUNDING must be one of open, invite, closed",
      "--listen must be HOST:PORT, as 127.0.0.1:8080 or [::1]:8080",
      "--set nothing.at_all is no setting",
      "--set limits.handshake_ms_max must be a whole number from 500 to 10,000",
    ],
  );
});

test("a name in the environment that is no setting is a warning: container platforms set their own", () => {
  const { warnings } = readConfig({
    environment: {
      SYNC_RELAY_LISTN: "x",
      SYNC_RELAY_PORT_8080_TCP_ADDR: "10.0.0.1",
      SYNC_RELAY_CONFIG: "relay.toml",
      PATH: "/bin",
    },
  });
  assert.equal(warnings.length, 2);
  assert.match(warnings[0] ?? "", /^SYNC_RELAY_LISTN .* did you mean SYNC_RELAY_LISTEN\?$/);
});

test("lines are right whatever a document looks like", () => {
  const text = [
    "# a comment",
    'log_level   =   "warn"  # and one more',
    "",
    "[ limits ] # here",
    '"sessions_max" = 1_000',
    "handshakes_max=5",
  ].join("\r\n");
  const { values } = readConfig(file(text));
  const lines = values.filter(({ origin }) => origin.kind === "file");
  assert.deepEqual(
    lines.map(({ setting, value, origin }) => [setting.key, value, originText(origin)]),
    [
      ["log_level", "warn", "relay.toml:2"],
      ["limits.sessions_max", 1_000, "relay.toml:5"],
      ["limits.handshakes_max", 5, "relay.toml:6"],
    ],
  );
  const inline = readConfig(file("\nlimits = { sessions_max = 7 }"));
  assert.equal(inline.options.limits.sessionsMax, 7);
  const dotted = readConfig(file("\n\nlimits.sessions_max = 7"));
  assert.deepEqual(
    dotted.values
      .filter(({ origin }) => origin.kind === "file")
      .map(({ origin }) => originText(origin)),
    ["relay.toml:3"],
  );
});

test("whatever text a file holds, it is read or its mistakes are told", () => {
  const words = fc.constantFrom(
    ..."[ ] limits = . sessions_max 5 \" ' # , { } \n listen true 1e9 '''".split(" "),
    "\n",
    "=",
  );
  const text = fc.oneof(
    fc.string({ maxLength: 200 }),
    fc.array(words, { maxLength: 40 }).map((parts) => parts.join(" ")),
  );
  fc.assert(
    fc.property(text, (toml) => {
      for (const problem of problemsOf(file(toml))) assert.match(problem, /^relay\.toml:\d+: /);
    }),
    { numRuns: 1_000 },
  );
});

test("the nearest name is one that takes few changes, and none where all are far", () => {
  const names = ["listen", "limits.sessions_max", "public_url"];
  assert.equal(nearest("listne", names), "listen");
  assert.equal(nearest("session_max", names), "limits.sessions_max");
  assert.equal(nearest("limit.sessions_max", names), "limits.sessions_max");
  assert.equal(nearest("zzzzzz", names), undefined);
  assert.equal(nearest("x".repeat(100_000), names), undefined);
});

test("what changed is told apart: what a running relay takes over, and what needs a restart", () => {
  const before = readConfig(file('listen = "127.0.0.1:1"'));
  const after = readConfig(
    file('listen = "127.0.0.1:2"\nfounding = "open"\n[limits]\nsessions_max = 5'),
  );
  assert.deepEqual(changedSettings(before, after), {
    live: ["founding", "limits.sessions_max"],
    restart: ["listen"],
  });
  // Every limit is live.
  assert(settings.filter((each) => each.table === "limits").every((each) => each.live));
});

test("docs/OPERATIONS.md lists every setting, with its default and whether it is live", async () => {
  const page = await readFile(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8");
  for (const setting of settings) {
    const row = page.split("\n").find((line) => line.startsWith(`| \`${setting.key}\``));
    assert(row !== undefined, `no row for ${setting.key}`);
    const [, , value = "", live = ""] = row.split("|").map((cell) => cell.trim());
    const text = Array.isArray(setting.default) ? "" : String(setting.default);
    assert.equal(value.replaceAll(/[`,]/g, ""), text === "" ? "empty" : text, setting.key);
    assert.equal(live === "yes", setting.live, setting.key);
  }
});
