/** `InviteService`: group invites. The code of an invite is told once, and only its hash is kept. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  type Invite,
  InviteKind,
  InviteSchema,
  type InviteService,
  type InviteServiceCreateRequest,
  InviteState,
} from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { equalBytes, fromBase64url, toBase64url } from "../../wire/bytes.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { groupInviteBytes, idText, parseId } from "../../wire/ids.ts";
import type { Relay } from "../relay.ts";
import type { InviteListing, InviteRow } from "../store/contract.ts";
import { invalid, notFound, precondition } from "./errors.ts";
import { readExpiry, readLabel, readPageSize, readQuota } from "./requests.ts";

/** Bytes of the hash that name an invite: twelve characters. */
const inviteIdBytes = 9;
const hashBytes = 32;

export function inviteService(relay: Relay): ServiceImpl<typeof InviteService> {
  return {
    create: async (request) => {
      const { row, code } = readCreate(relay, request);
      const kept = await relay.operate(
        (draft, existing) => {
          if (existing === undefined) draft.setInvite(row);
          return existing ?? row;
        },
        undefined,
        row.inviteHash,
      );
      if (!sameInvite(kept, row)) {
        throw new ConnectError("another invite has that code", Code.AlreadyExists);
      }
      const [listing] = await relay.store.listInvites(row.inviteHash, 1);
      return { invite: inviteOf(relay, listing ?? { invite: kept, groupId: undefined }), code };
    },
    list: async (request) => {
      const size = readPageSize(request.pageSize);
      const from = readPageToken(request.pageToken);
      const rows = await relay.store.listInvites(from, size + 1);
      const next = rows[size];
      return {
        invites: rows.slice(0, size).map((row) => inviteOf(relay, row)),
        nextPageToken: next === undefined ? "" : toBase64url(next.invite.inviteHash),
      };
    },
    get: async (request) => ({
      invite: inviteOf(relay, await findInvite(relay, request.inviteId)),
    }),
    revoke: async (request) => {
      const { invite } = await findInvite(relay, request.inviteId);
      const revokedMs = relay.world.nowMs();
      const kept = await relay.operate(
        (draft, existing) => {
          const found = existing ?? invite;
          if (found.usedByGroupKey !== 0 || found.revokedMs !== 0) return found;
          const revoked = { ...found, revokedMs };
          draft.setInvite(revoked);
          return revoked;
        },
        undefined,
        invite.inviteHash,
      );
      if (kept.usedByGroupKey !== 0) {
        throw precondition("the invite was used: suspend or delete the group it founded");
      }
      return { invite: inviteOf(relay, { invite: kept, groupId: undefined }) };
    },
  };
}

function readCreate(
  relay: Relay,
  request: InviteServiceCreateRequest,
): { readonly row: InviteRow; readonly code: string } {
  if (request.kind === InviteKind.DEVICE) {
    throw precondition("a device invite is made by a device of the group: sync-cli pair --invite");
  }
  if (request.kind !== InviteKind.UNSPECIFIED && request.kind !== InviteKind.GROUP) {
    throw invalid("kind must be INVITE_KIND_GROUP");
  }
  const invite =
    request.code === ""
      ? relay.world.random(groupInviteBytes)
      : parseId(request.code, groupInviteBytes);
  if (invite === undefined) throw invalid("code must be 22 characters of base64url, or empty");
  const expiresInS = readExpiry(request.expiresInS);
  return {
    code: toBase64url(invite),
    row: {
      inviteHash: blake2b256(invite),
      label: readLabel(request.label),
      quotaBytes: readQuota(request.quotaBytes),
      expiresAgeS: expiresInS === 0 ? 0 : relay.ageS() + expiresInS,
      createdMs: relay.world.nowMs(),
      usedByGroupKey: 0,
      revokedMs: 0,
    },
  };
}

/** Whether a request asks for the invite that is there. A repetition may come a little later, so the time left is not compared. */
function sameInvite(kept: InviteRow, asked: InviteRow): boolean {
  return (
    kept.label === asked.label &&
    kept.quotaBytes === asked.quotaBytes &&
    (kept.expiresAgeS === 0) === (asked.expiresAgeS === 0)
  );
}

function readPageToken(token: string): Uint8Array {
  if (token === "") return new Uint8Array(hashBytes);
  const hash = parseId(token, hashBytes);
  if (hash === undefined) throw invalid("page_token must come from the answer before");
  return hash;
}

async function findInvite(relay: Relay, inviteId: string): Promise<InviteListing> {
  const prefix = inviteId.length === 12 ? fromBase64url(inviteId) : undefined;
  if (prefix === undefined) throw invalid("invite_id must be 12 characters of base64url");
  const from = new Uint8Array(hashBytes);
  from.set(prefix);
  const [found] = await relay.store.listInvites(from, 1);
  if (found === undefined) throw notFound("invite");
  if (!equalBytes(found.invite.inviteHash.subarray(0, inviteIdBytes), prefix)) {
    throw notFound("invite");
  }
  return found;
}

function inviteOf(relay: Relay, { invite, groupId }: InviteListing): Invite {
  const leftS = invite.expiresAgeS === 0 ? 0 : Math.max(0, invite.expiresAgeS - relay.ageS());
  const state = stateOf(invite, leftS);
  return create(InviteSchema, {
    inviteId: toBase64url(invite.inviteHash.subarray(0, inviteIdBytes)),
    kind: InviteKind.GROUP,
    label: invite.label,
    quotaBytes: BigInt(invite.quotaBytes),
    state,
    createdMs: BigInt(Math.floor(invite.createdMs)),
    expiresInS: BigInt(state === InviteState.OPEN ? leftS : 0),
    groupId: groupId === undefined ? "" : idText(groupId),
  });
}

function stateOf(invite: InviteRow, leftS: number): InviteState {
  if (invite.usedByGroupKey !== 0) return InviteState.USED;
  if (invite.revokedMs !== 0) return InviteState.REVOKED;
  return invite.expiresAgeS !== 0 && leftS === 0 ? InviteState.EXPIRED : InviteState.OPEN;
}
