/**
 * Findings, exported so that somebody else can check them with the public keys of the group: what the
 * relay sent, what was verified, what other devices signed. No key, no plaintext, no name of a device.
 */
import { create } from "@bufbuild/protobuf";
import {
  type EvidenceBundle,
  EvidenceBundleSchema,
  EvidenceDeviceSchema,
} from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { SenderLinkSchema } from "../gen/syncrelay/sealed/v1/entry_pb.ts";
import { MembershipVersionSchema } from "../gen/syncrelay/sync/v1/error_pb.ts";
import { idText } from "../wire/ids.ts";
import type { Core } from "./core.ts";
import { UsageError } from "./usage-error.ts";

/** The evidence of one finding, or of all that are kept. */
export async function exportEvidence(core: Core, id: string | undefined): Promise<EvidenceBundle> {
  const findings = await core.findings.evidence(id);
  if (id !== undefined && findings.length === 0) {
    throw new UsageError("there is no finding of that id");
  }
  const named = new Set<string>();
  for (const { deviceId, received, verified, claims } of findings) {
    if (deviceId.byteLength > 0) named.add(idText(deviceId));
    for (const { sender } of [...received, ...verified]) named.add(idText(sender));
    for (const { witnessId } of claims) if (witnessId.byteLength > 0) named.add(idText(witnessId));
  }
  const { chain } = core;
  const devices = [...named].flatMap((text) => {
    const device = chain?.devices.get(text);
    if (device === undefined) return [];
    const { deviceId, signingKey, closing } = device;
    return [
      create(EvidenceDeviceSchema, {
        deviceId,
        signingKey,
        ...(closing === undefined
          ? {}
          : {
              closing: create(SenderLinkSchema, {
                deviceId,
                seq: BigInt(closing.seq),
                link: closing.link,
              }),
            }),
      }),
    ];
  });
  return create(EvidenceBundleSchema, {
    groupId: core.groupId,
    findings,
    devices,
    membership: create(MembershipVersionSchema, {
      count: BigInt(chain?.version.count ?? 0),
      head: chain?.version.head ?? new Uint8Array(32),
    }),
  });
}
