/** What a run and its device processes say to each other, and the lines of a device's journals. */

/** Points of the app at which a device process may be told to end. */
export type AppPoint =
  | "before-apply"
  | "after-apply"
  | "after-ack"
  | "queued"
  | "durable"
  | "membership";

/** How a device process is started. */
export interface DeviceSettings {
  /** What the app keeps. */
  readonly folder: string;
  /** What the library keeps. */
  readonly state: string;
  readonly name: string;
  readonly relay?: string;
  /** Connects here instead of where the address says. */
  readonly viaPort?: number;
  /** How much faster its timers run than the world's: waits, not work. */
  readonly speed: number;
  readonly dieAt?: { readonly point: AppPoint; readonly count: number };
  /** The app offers and takes over states. */
  readonly snapshots?: boolean;
  /** Milliseconds the app takes over each entry. */
  readonly slowMs?: number;
}

/** Of the journal `pushes`. */
export type PushLine =
  | readonly ["begin", names: readonly string[], counter: number]
  | readonly ["queued", readonly (readonly [name: string, seq: number, blobId: string])[]]
  | readonly ["durable", readonly (readonly [blobId: string, cursor: number])[]]
  | readonly ["refused", names: readonly string[], why: string];

/** Of the journal `applied`: an entry, or that the state up to this position was taken over. */
export type AppliedLine =
  | readonly [
      kind: "entry",
      position: number,
      cursor: number,
      sender: string,
      seq: number,
      blobId: string,
      name: string,
    ]
  | readonly ["position", position: number];

/** Of the journal `events`. */
export type EventLine = readonly [kind: "integrity" | "gap" | "error" | "defect", text: string];

/** What a device says of itself whenever something moved. */
export interface Standing {
  readonly deviceId: string;
  readonly connection: string;
  /** The code of what stands in the way of a connection. */
  readonly error: string;
  readonly membership: string;
  readonly queued: number;
  readonly held: string;
  readonly readCursor: number;
  readonly appliedCursor: number;
  readonly refused: number;
  readonly findings: number;
  readonly epoch: number;
  readonly devices: number;
  readonly inSync: boolean;
  /** Of this process. */
  readonly applied: number;
  readonly queuedEver: number;
  readonly durable: number;
  readonly integrity: number;
  readonly invited: number;
  readonly restored: number;
}

export interface Call {
  readonly id: number;
  readonly method: string;
  readonly args: unknown;
}

export type Said =
  | { readonly ready: true }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: string; readonly hint: string }
  | { readonly standing: Standing };
