/**
 * Bugs that are planted to see whether anything finds them. Each changes one text of one file, which
 * must stand there once, and names the proof that must fail then. `npm run mutants` plants them one
 * at a time in a copy of the tree.
 */

export interface PlantedBug {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Seeds of the simulation, or tests by the words `npm test` takes. */
  readonly proof:
    | { readonly seeds: number; readonly from?: number }
    | { readonly tests: readonly string[] };
}

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: "the relay acknowledges before the commit",
    file: "server/committer.ts",
    from: "      if (!draft.empty)\n        await this.#options.store.commit(",
    to: `      settle(settlements);
      settlements.length = 0;
      if (!draft.empty)
        await this.#options.store.commit(`,
    proof: { seeds: 100 },
  },
  {
    name: "the relay goes on from a commit that failed",
    file: "server/committer.ts",
    from: "      if (!draft.empty)\n        await this.#options.store.commit(",
    to: `      draft.apply();
      if (!draft.empty)
        await this.#options.store.commit(`,
    proof: { seeds: 100 },
  },
  {
    name: "a duplicate is looked for behind the epoch check",
    file: "server/group-log.ts",
    from: "  for (const blob of push.blobs) {\n    if (blob.seq > deviceRow.lastSeq) {",
    to: `  for (const blob of push.blobs) {
    if (blob.epoch !== groupRow.epoch) return membershipError(ErrorCode.EPOCH_STALE, groupRow);
    if (blob.seq > deviceRow.lastSeq) {`,
    proof: { tests: ["relay/pushing"] },
  },
  {
    name: "a duplicate of the commit under way is missed",
    file: "server/group-log.ts",
    from: "  const place = places.get(blob.seq) ?? draft.placeOf(groupKey, device.row.deviceKey, blob.seq);",
    to: "  const place = places.get(blob.seq);\n  void groupKey;",
    proof: { tests: ["relay/pushing"] },
  },
  {
    name: "a stale epoch is accepted",
    file: "server/group-log.ts",
    from: "    if (blob.epoch < groupRow.epoch) return",
    to: "    if (blob.epoch < groupRow.epoch - 1) return",
    proof: { tests: ["relay/pushing"] },
  },
  {
    name: "a page that is empty and not the last",
    file: "server/session-driver.ts",
    from: "    if (rows.length === 0 && last < lastNow()) {",
    to: "    if (rows.length < 0) {",
    proof: { seeds: 100 },
  },
  {
    name: "the device stores the highest cursor it knows of",
    file: "client/reader.ts",
    from: "        read: window.through,",
    to: "        read: Math.max(window.through, core.head ?? 0),",
    proof: { seeds: 100 },
  },
  {
    name: "the cursor is stored outside the transaction of its entries",
    file: "client/reader.ts",
    from: "    await core.disk.write(\n      async (tx) => {\n        if (judged.items.length > 0) {",
    to: `    await core.disk.write((tx) => void this.#inbox.write(tx, log));
    await core.disk.write(
      async (tx) => {
        if (judged.items.length > 0) {`,
    proof: { seeds: 300 },
  },
  {
    name: "a session begins before the last one's writes have ended",
    file: "client/engine.ts",
    from: "    await reader.settled();",
    to: "    await Promise.resolve();",
    proof: { seeds: 150 },
  },
  {
    name: "sealing again changes the link",
    file: "client/outbox.ts",
    from: "      sealBlob(blob, {",
    to: "      sealBlob({ ...blob, blobId: core.host.random(16) }, {",
    proof: { seeds: 20 },
  },
  {
    name: "what is queued is not on disk",
    file: "client/outbox.ts",
    from: '          for (const blob of made) tx.put("own", blob.seq, encodeOwn(blob));',
    to: '          for (const blob of made.slice(0, 0)) tx.put("own", blob.seq, encodeOwn(blob));',
    proof: { seeds: 100 },
  },
  {
    name: "sent counts as durable",
    file: "client/outbox.ts",
    from: "    this.#nextSeq = flight.last + 1;\n",
    to: "    this.#nextSeq = flight.last + 1;\n    this.#storedThrough(flight.last);\n",
    proof: { seeds: 20 },
  },
  {
    name: "in sync while something is queued",
    file: "client/overview.ts",
    from: "      queued === 0 &&\n      unacknowledged",
    to: "      queued >= 0 &&\n      unacknowledged",
    proof: { seeds: 100 },
  },
  {
    name: "in sync while not everything is read",
    file: "client/reader.ts",
    from: "      this.#core.log.read >= this.#core.head\n",
    to: "      this.#core.log.read >= this.#core.head - 1\n",
    proof: { seeds: 100 },
  },
  {
    name: "the cursor of an old log is used in the new one",
    file: "client/log-meeting.ts",
    from: "{ ...before, logId: welcome.logId, read: 0, link: zeroLink }",
    to: "{ ...before, logId: welcome.logId }",
    proof: { tests: ["simulation/restore"] },
  },
  {
    name: "an app's positions begin anew with another log",
    file: "client/log-meeting.ts",
    from: "{ ...before, logId: welcome.logId, read: 0, link: zeroLink }",
    to: "{ ...before, logId: welcome.logId, read: 0, link: zeroLink, position: 0 }",
    proof: { seeds: 100 },
  },
  {
    name: "the keyring is trimmed away but for the newest secrets",
    file: "client/seal/membership.ts",
    from: "    if (epoch === 1) break;\n    if (opening.previousSecret",
    to: "    if (epoch === 1 || keyring.newest > epoch) break;\n    if (opening.previousSecret",
    proof: { seeds: 100 },
  },
  {
    name: "remaining devices are closed, too, when one is removed",
    file: "client/judge.ts",
    from: "      if (bodyKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);\n",
    to: `      if (bodyKey === undefined) throw new SyncError(ErrorCode.KEY_MISSING);
      const closed = [...(core.chain?.devices.values() ?? [])].some((each) => each.closing);
      if (closed && Number(blob.epoch) < (core.chain?.epoch ?? 0)) {
        throw new SyncError(ErrorCode.HISTORY_ALTERED);
      }
`,
    proof: { seeds: 100 },
  },
  {
    name: "what a removed device wrote above its closing counts",
    file: "client/seal/history.ts",
    from: "  return seq > closing.seq || !equalBytes(link, closing.link);\n",
    to: "  return seq > closing.seq + 1_000 && equalBytes(link, zeroLink);\n",
    proof: { tests: ["seal/history"] },
  },
  {
    name: "a change that was asked for dies with the process",
    file: "client/membership-changes.ts",
    from: '        else tx.put("device", "changes", encode(next));',
    to: "        else encode(next);",
    proof: { tests: ["client/membership"] },
  },
  {
    name: "a device that lost state goes on where it believes to be",
    file: "client/outbox.ts",
    from: "      if (relay.seq > own.last.seq) return false;",
    to: "      if (relay.seq > own.last.seq) return true;",
    proof: { seeds: 100 },
  },
  {
    name: "what is queued goes when a device reads back what it lost",
    file: "client/outbox.ts",
    from: "          moved.set(old.seq, blob.seq);\n          blobs.push(blob);",
    to: "          moved.set(old.seq, blob.seq);",
    proof: { seeds: 300 },
  },
  {
    name: "what a restored relay lacks is not pushed again",
    file: "client/outbox.ts",
    from: "    const lost = relay.seq < core.own.durableSeq;",
    to: `    const lost = false;
    if (relay.seq < core.own.durableSeq) {
      await this.#findNext(core.own.durableSeq);
      this.#restart();
      return;
    }`,
    proof: { seeds: 100 },
  },
  {
    name: "an upload that goes on after a restart begins another object",
    file: "client/objects.ts",
    from: "      if (equalBytes(outline.objectId, begun.objectId)) return outline;",
    to: "      if (begun.complete && equalBytes(outline.objectId, begun.objectId)) return outline;",
    proof: { seeds: 20 },
  },
  {
    name: "whoever stores an object does not refer to it",
    file: "server/objects.ts",
    from: "  object.holders.add(device.row.deviceKey);",
    to: "  void device;",
    proof: { seeds: 20 },
  },
  {
    name: "a device that lets an object go ends the references of others",
    file: "server/objects.ts",
    from: "    if (gone || holder === device.row.deviceKey) object.holders.delete(holder);",
    to: "    if (gone || holder >= 0) object.holders.delete(holder);",
    proof: { seeds: 20 },
  },
  {
    name: "an object that nobody refers to stays",
    file: "server/objects.ts",
    from: "  if (object.holders.size === 0) dropObject(draft, group, object);",
    to: "  if (object.holders.size < 0) dropObject(draft, group, object);",
    proof: { seeds: 20 },
  },
  {
    name: "a part of an object is read from where its chunk begins",
    file: "server/life-desk.ts",
    from: "      data = new Uint8Array(read.subarray(skip, skip + length));",
    to: "      data = new Uint8Array(read.subarray(0, length));",
    proof: { seeds: 20 },
  },
];
