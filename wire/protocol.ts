/** The constants both ends must agree on. */
import { utf8 } from "./bytes.ts";

/** The versions of the protocol that this library speaks. */
export const protocolVersions = { min: 1, max: 1 } as const;
/** The WebSocket subprotocol. */
export const subprotocol = "syncrelay.v1";
/** The prologue of the handshake between device and relay. */
export const prologue: Uint8Array = utf8("syncrelay/1");
/** This software's version, as it tells it to the other side. */
export const softwareVersion = "0.1.0";
