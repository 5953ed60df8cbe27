/**
 * Pairing mailboxes: a few numbered messages each way between an inviting
 * device and a joining one, in memory, ten minutes at most. Pure: time is an
 * argument; what is to be told comes back with whom to tell it.
 *
 * The relay passes on and never reads. What it must not do is tell a stranger
 * whether a mailbox exists, was used, or has expired: all are INVITE_INVALID.
 */
import { InviteCloseReason } from "../gen/syncrelay/sync/v1/invite_pb.ts";
import { copyBytes } from "../wire/bytes.ts";
import type { EnvelopeBody } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { inviteMessagesMax, inviteMs } from "../wire/limits.ts";
import { TokenBucket } from "./rate-limit.ts";
import type { MailboxRequest } from "./session.ts";

/** A party of a mailbox: one session, as its driver names it. */
export interface Party<Ref> {
  /** Whom to tell. */
  readonly session: Ref;
  /** The text of the device's id. */
  readonly device: string;
  /** What stands for its address in the limits. */
  readonly address: string;
  /** The text of its group's id; empty where the session has none. */
  readonly group: string;
}

/** Something to tell a session by itself. */
export interface MailboxNotice<Ref> {
  readonly to: Ref;
  readonly body: EnvelopeBody;
}

/** The answer to a request, and what others are told. */
export interface MailboxResult<Ref> {
  readonly answer: EnvelopeBody;
  readonly notices: MailboxNotice<Ref>[];
}

/** Mailboxes at once: each holds at most 64 KiB. */
const mailboxesMax = 1_024;
/** Mailboxes of one device at once, and of one group: whoever is in a group leaves room for the others. */
const mailboxesPerDeviceMax = 4;
const mailboxesPerGroupMax = 64;
/** Mailboxes a device may open a minute. */
const openRate = { perS: 5 / 60, burst: 5 };
/** Lookups an address may make a minute, and misses among them. */
const lookUpRate = { perS: 10 / 60, burst: 10 };
const missRate = { perS: 3 / 60, burst: 3 };
/** Limiters kept before those that are full again are forgotten. */
const bucketsMax = 4_096;

interface Side<Ref> {
  readonly device: string;
  /** The session that serves it now. */
  session: Ref | undefined;
  /** What it sent, from number 1. */
  readonly sent: Uint8Array[];
}

interface Mailbox<Ref> {
  readonly rendezvousId: Uint8Array;
  readonly inviter: Side<Ref>;
  /** The inviting device's. */
  readonly group: string;
  /** Reserved for the key that joined first. */
  joiner: Side<Ref> | undefined;
  readonly expiresAtMs: number;
}

export class Mailboxes<Ref> {
  readonly #mailboxes = new Map<string, Mailbox<Ref>>();
  readonly #opens = new Map<string, TokenBucket>();
  readonly #lookUps = new Map<string, TokenBucket>();
  readonly #misses = new Map<string, TokenBucket>();

  get size(): number {
    return this.#mailboxes.size;
  }

  /** Carries out a request. Throws `SyncError` where it is refused. */
  handle(request: MailboxRequest, party: Party<Ref>, nowMs: number): MailboxResult<Ref> {
    switch (request.kind) {
      case "open":
        return this.#open(request.rendezvousId, request.received, party, nowMs);
      case "join":
        return this.#join(request.rendezvousId, request.received, party, nowMs);
      case "message":
        return this.#message(request, party, nowMs);
      case "close":
        return this.#close(request, party, nowMs);
    }
  }

  /** Forgets mailboxes whose time ran out. */
  expire(nowMs: number): MailboxNotice<Ref>[] {
    const notices: MailboxNotice<Ref>[] = [];
    for (const [key, mailbox] of this.#mailboxes) {
      // Ordered by when they were opened, and all live equally long.
      if (mailbox.expiresAtMs > nowMs) break;
      this.#mailboxes.delete(key);
      notices.push(...closing(mailbox, InviteCloseReason.EXPIRED, undefined));
    }
    return notices;
  }

  /** A session ended: its mailboxes wait for it to come back. */
  leave(session: Ref): void {
    for (const mailbox of this.#mailboxes.values()) {
      for (const side of [mailbox.inviter, mailbox.joiner]) {
        if (side?.session === session) side.session = undefined;
      }
    }
  }

  #open(
    rendezvousId: Uint8Array,
    received: number,
    party: Party<Ref>,
    nowMs: number,
  ): MailboxResult<Ref> {
    const key = idText(rendezvousId);
    const existing = this.#mailboxes.get(key);
    if (existing !== undefined && existing.expiresAtMs > nowMs) {
      // Somebody else's: the device draws another.
      if (existing.inviter.device !== party.device) throw new SyncError(ErrorCode.INVITE_INVALID);
      existing.inviter.session = party.session;
      return reattached(existing, existing.inviter, existing.joiner, received, nowMs);
    }
    takeToken(this.#opens, party.device, openRate, nowMs);
    let own = 0;
    let ofGroup = 0;
    for (const { inviter, group, expiresAtMs } of this.#mailboxes.values()) {
      if (expiresAtMs <= nowMs || group !== party.group) continue;
      ofGroup += 1;
      if (inviter.device === party.device) own += 1;
    }
    if (
      own >= mailboxesPerDeviceMax ||
      ofGroup >= mailboxesPerGroupMax ||
      this.#mailboxes.size >= mailboxesMax
    ) {
      throw new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: inviteMs });
    }
    // One whose time ran out and of whose end nobody was told yet.
    const notices =
      existing === undefined ? [] : closing(existing, InviteCloseReason.EXPIRED, party.session);
    const mailbox: Mailbox<Ref> = {
      // Copied, as messages are: a view would keep the whole record it came in.
      rendezvousId: copyBytes(rendezvousId),
      inviter: { device: party.device, session: party.session, sent: [] },
      group: party.group,
      joiner: undefined,
      expiresAtMs: nowMs + inviteMs,
    };
    // Behind all others: `expire` goes by their order.
    this.#mailboxes.delete(key);
    this.#mailboxes.set(key, mailbox);
    const opened = reattached(mailbox, mailbox.inviter, undefined, received, nowMs);
    return { answer: opened.answer, notices };
  }

  #join(
    rendezvousId: Uint8Array,
    received: number,
    party: Party<Ref>,
    nowMs: number,
  ): MailboxResult<Ref> {
    takeToken(this.#lookUps, party.address, lookUpRate, nowMs);
    // Before the look-up: after its misses an address learns nothing of hits either.
    const missWaitMs = this.#misses.get(party.address)?.waitMs(missRate, nowMs) ?? 0;
    if (missWaitMs > 0) throw new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: missWaitMs });
    const mailbox = this.#mailboxes.get(idText(rendezvousId));
    const open =
      mailbox !== undefined &&
      mailbox.expiresAtMs > nowMs &&
      (mailbox.joiner === undefined || mailbox.joiner.device === party.device);
    if (!open) {
      takeToken(this.#misses, party.address, missRate, nowMs);
      throw new SyncError(ErrorCode.INVITE_INVALID);
    }
    mailbox.joiner ??= { device: party.device, session: party.session, sent: [] };
    mailbox.joiner.session = party.session;
    return reattached(mailbox, mailbox.joiner, mailbox.inviter, received, nowMs);
  }

  #message(
    request: Extract<MailboxRequest, { kind: "message" }>,
    party: Party<Ref>,
    nowMs: number,
  ): MailboxResult<Ref> {
    const { mailbox, side, other } = this.#own(request.rendezvousId, party, nowMs);
    // A number that is there already was answered on a connection that was lost.
    if (request.number <= side.sent.length) return done([]);
    if (request.number !== side.sent.length + 1 || request.number > inviteMessagesMax) {
      throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    }
    side.sent.push(copyBytes(request.data));
    return done(
      other?.session === undefined
        ? []
        : [{ to: other.session, body: messageBody(mailbox, request.number, request.data) }],
    );
  }

  #close(
    request: Extract<MailboxRequest, { kind: "close" }>,
    party: Party<Ref>,
    nowMs: number,
  ): MailboxResult<Ref> {
    // One attempt, one mailbox: after a failed one the inviting device, which
    // counts them, opens it anew, empty and reserved for nobody.
    const { mailbox } = this.#own(request.rendezvousId, party, nowMs);
    this.#mailboxes.delete(idText(mailbox.rendezvousId));
    return done(closing(mailbox, request.reason, party.session));
  }

  /** A mailbox that this party has a side of. */
  #own(rendezvousId: Uint8Array, party: Party<Ref>, nowMs: number) {
    const mailbox = this.#mailboxes.get(idText(rendezvousId));
    if (mailbox !== undefined && mailbox.expiresAtMs > nowMs) {
      const { inviter, joiner } = mailbox;
      if (inviter.session === party.session) return { mailbox, side: inviter, other: joiner };
      if (joiner?.session === party.session) return { mailbox, side: joiner, other: inviter };
    }
    throw new SyncError(ErrorCode.INVITE_INVALID);
  }
}

function done<Ref>(notices: MailboxNotice<Ref>[]): MailboxResult<Ref> {
  return { answer: { case: "done", value: {} }, notices };
}

function reattached<Ref>(
  mailbox: Mailbox<Ref>,
  side: Side<Ref>,
  other: Side<Ref> | undefined,
  received: number,
  nowMs: number,
): MailboxResult<Ref> {
  const notices: MailboxNotice<Ref>[] = [];
  if (side.session !== undefined && other !== undefined) {
    for (let i = received; i < other.sent.length; i++) {
      notices.push({
        to: side.session,
        body: messageBody(mailbox, i + 1, other.sent[i] as Uint8Array),
      });
    }
  }
  return {
    answer: {
      case: "inviteOpened",
      value: { expiresInMs: Math.ceil(mailbox.expiresAtMs - nowMs), stored: side.sent.length },
    },
    notices,
  };
}

function messageBody<Ref>(mailbox: Mailbox<Ref>, number: number, data: Uint8Array): EnvelopeBody {
  return {
    case: "inviteMessage",
    value: { rendezvousId: mailbox.rendezvousId, number, data },
  };
}

function closing<Ref>(
  mailbox: Mailbox<Ref>,
  reason: InviteCloseReason,
  except: Ref | undefined,
): MailboxNotice<Ref>[] {
  const notices: MailboxNotice<Ref>[] = [];
  for (const side of [mailbox.inviter, mailbox.joiner]) {
    if (side?.session === undefined || side.session === except) continue;
    notices.push({
      to: side.session,
      body: { case: "closeInvite", value: { rendezvousId: mailbox.rendezvousId, reason } },
    });
  }
  return notices;
}

function takeToken(
  buckets: Map<string, TokenBucket>,
  key: string,
  rate: { perS: number; burst: number },
  nowMs: number,
): void {
  let bucket = buckets.get(key);
  if (bucket === undefined) {
    if (buckets.size >= bucketsMax) {
      for (const [other, old] of buckets) if (old.full(rate, nowMs)) buckets.delete(other);
    }
    // Too many strangers at once: nobody new is let in until some have paused.
    if (buckets.size >= bucketsMax) {
      throw new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: 60_000 });
    }
    bucket = new TokenBucket(rate, nowMs);
    buckets.set(key, bucket);
  }
  const waitMs = bucket.take(rate, nowMs);
  if (waitMs > 0) throw new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: waitMs });
}
