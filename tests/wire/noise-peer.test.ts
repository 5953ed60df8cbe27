import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { before, test } from "node:test";
import createNoise, { type NoiseC } from "noise-c.wasm";
import { utf8 } from "../../wire/bytes.ts";
import { Handshake, keyPairOf, type Transport } from "../../wire/channel.ts";
import { prologue } from "../../wire/protocol.ts";
import { type ReferenceCipher, ReferenceHandshake } from "./noise-reference.ts";
import { filled } from "./support.ts";

/** A peer that is not ours, whichever library runs it. */
interface Peer {
  write(payload: Uint8Array): Uint8Array;
  read(message: Uint8Array): Uint8Array;
  finish(): PeerTransport;
}

interface PeerTransport {
  readonly remoteKey: Uint8Array;
  readonly handshakeHash: Uint8Array;
  encrypt(plaintext: Uint8Array): Uint8Array;
  decrypt(ciphertext: Uint8Array): Uint8Array;
}

type Role = "initiator" | "responder";

const ownSecret = filled(0x61);
const peerSecret = filled(0x62);
const none = new Uint8Array(0);

let noiseC: NoiseC;

before(async () => {
  const wasm = createRequire(import.meta.url).resolve("noise-c.wasm/src/noise-c.wasm");
  noiseC = await new Promise((resolve) => createNoise({ wasmBinary: readFileSync(wasm) }, resolve));
});

/** noise-c as it comes: its ephemeral key is its own. */
function noiseCPeer(role: Role): Peer {
  const { NOISE_ROLE_INITIATOR, NOISE_ROLE_RESPONDER } = noiseC.constants;
  const state = new noiseC.HandshakeState(
    "Noise_XX_25519_ChaChaPoly_BLAKE2b",
    role === "initiator" ? NOISE_ROLE_INITIATOR : NOISE_ROLE_RESPONDER,
  );
  state.Initialize(prologue, peerSecret);
  return {
    write: (payload) => state.WriteMessage(payload),
    read: (message) => state.ReadMessage(message, true),
    finish() {
      const remoteKey = state.GetRemotePublicKey();
      const handshakeHash = state.GetHandshakeHash();
      const [send, receive] = state.Split();
      return {
        remoteKey,
        handshakeHash,
        encrypt: (plaintext) => send.EncryptWithAd(none, plaintext),
        decrypt: (ciphertext) => receive.DecryptWithAd(none, ciphertext),
      };
    },
  };
}

/** The reference, with noise-c's cipher where `sendByNoiseC` says so. */
function referencePeer(role: Role, psk: Uint8Array | undefined, sendByNoiseC = false): Peer {
  const state = new ReferenceHandshake(
    role === "initiator",
    prologue,
    peerSecret,
    filled(0x63),
    psk,
  );
  return {
    write: (payload) => state.write(payload),
    read: (message) => state.read(message),
    finish() {
      const { send, receive, sendKey } = state.split();
      const cipher = new noiseC.CipherState(noiseC.constants.NOISE_CIPHER_CHACHAPOLY);
      cipher.InitializeKey(sendKey);
      const encrypt = (sender: ReferenceCipher, plaintext: Uint8Array): Uint8Array =>
        sendByNoiseC ? cipher.EncryptWithAd(none, plaintext) : sender.encrypt(none, plaintext);
      return {
        remoteKey: state.remoteKey,
        handshakeHash: state.hash,
        encrypt: (plaintext) => encrypt(send, plaintext),
        decrypt: (ciphertext) => receive.decrypt(none, ciphertext),
      };
    },
  };
}

/** The handshake with payloads in all three messages, then 200 transport messages each way. */
function talk(peer: Peer, peerRole: Role, psk: Uint8Array | undefined): void {
  const own = new Handshake({
    role: peerRole === "initiator" ? "responder" : "initiator",
    keyPair: keyPairOf(ownSecret),
    prologue,
    ...(psk === undefined ? {} : { psk }),
  });
  for (const [i, payload] of ["first", "", "third, and longer"].entries()) {
    const peerWrites = (i !== 1) === (peerRole === "initiator");
    const [writer, reader] = peerWrites ? [peer, own] : [own, peer];
    assert.deepEqual(new Uint8Array(reader.read(writer.write(utf8(payload)))), utf8(payload));
  }
  const transport: Transport = own.finish();
  const peerTransport = peer.finish();
  assert.deepEqual(transport.handshakeHash, new Uint8Array(peerTransport.handshakeHash));
  assert.deepEqual(transport.remoteKey, keyPairOf(peerSecret).publicKey);
  assert.deepEqual(new Uint8Array(peerTransport.remoteKey), keyPairOf(ownSecret).publicKey);
  for (let i = 0; i < 200; i++) {
    const plaintext = filled(i, i * 7);
    assert.deepEqual(
      new Uint8Array(peerTransport.decrypt(transport.encrypt(plaintext))),
      plaintext,
    );
    assert.deepEqual(
      transport.decrypt(new Uint8Array(peerTransport.encrypt(plaintext))),
      plaintext,
    );
  }
}

for (const role of ["initiator", "responder"] as const) {
  test(`2.4 noise-c as the ${role} of XX speaks with this channel`, () => {
    talk(noiseCPeer(role), role, undefined);
  });

  test(`2.4 the reference as the ${role} of XX speaks with this channel`, () => {
    talk(referencePeer(role, undefined), role, undefined);
  });

  test(`SECURITY Pairing: the reference as the ${role} of XXpsk0 speaks with this channel, by noise-c's cipher too`, () => {
    talk(referencePeer(role, filled(0x70)), role, filled(0x70));
    talk(referencePeer(role, filled(0x70), true), role, filled(0x70));
  });

  test(`SECURITY Pairing: a peer with another psk as the ${role} of XXpsk0 is refused`, () => {
    assert.throws(() => talk(referencePeer(role, filled(0x71)), role, filled(0x70)));
  });

  test(`2.4 the reference as the ${role} agrees with noise-c on XX`, () => {
    const reference = referencePeer(role, undefined);
    const other = noiseCPeer(role === "initiator" ? "responder" : "initiator");
    for (const i of [0, 1, 2]) {
      const referenceWrites = (i !== 1) === (role === "initiator");
      const [writer, reader] = referenceWrites ? [reference, other] : [other, reference];
      assert.deepEqual(new Uint8Array(reader.read(writer.write(filled(i, 5)))), filled(i, 5));
    }
    assert.deepEqual(
      new Uint8Array(reference.finish().handshakeHash),
      new Uint8Array(other.finish().handshakeHash),
    );
  });
}
