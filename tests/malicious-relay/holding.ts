/** What a lie comes to that is told to a device which is there. */
import assert from "node:assert/strict";
import type { MemberLie } from "./member-lies.ts";
import { settled, taking, told } from "./setting.ts";

/** What a session ends with, besides: it was cut by the test, or says no more than its finding. */
const besides: ReadonlySet<string> = new Set(["CONNECTION_LOST", "HISTORY_ALTERED"]);

export async function holds(lie: MemberLie): Promise<void> {
  const at = await settled();
  const { world, relay, a, b, c } = at;
  const { texts } = taking(b);
  const heard = new Set<string>();
  const listen = (): boolean => {
    for (const each of told(b)) heard.add(each);
    return heard.has(lie.event);
  };
  b.client.on("integrity", listen);
  b.client.on("error", listen);
  await lie.tell(at);
  await world.until(listen, 30_000).catch(() => undefined);
  await world.run(2_000);
  listen();
  const events = [...heard].filter((event) => !besides.has(event));
  assert.deepEqual(events, lie.event === "nothing" ? [] : [lie.event]);
  assert.equal(lie.holds?.(at) ?? true, true);
  if (lie.applied !== undefined) assert.deepEqual(texts, lie.applied);
  assert.equal(b.inSync, lie.inSync);
  // The truth again.
  relay.lies.clear();
  relay.answers.clear();
  world.cutAll();
  if (b.client.status().connection.state === "stopped") {
    await b.restart();
    taking(b);
  }
  await world.run(60_000);
  if (lie.healed === "the next true change") {
    assert.equal(b.inSync, false);
    await world.result(a.client.rename("renamed"));
  }
  await a.push("later");
  await world.run(60_000);
  assert.equal(b.inSync, lie.healed !== "a person accepts it");
  // Nothing is ever applied twice, and nobody else noticed anything.
  assert.equal(new Set(texts).size, texts.length);
  for (const device of [a, c]) assert.deepEqual(device.integrity, []);
  assert.deepEqual(relay.defects, []);
}
