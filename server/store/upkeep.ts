/**
 * What an operator asks of a store on disk while it is in use: a backup, a look
 * at every row, and to give free space back. Each runs beside the commits.
 */

/** How far a copy is. */
export type OnCopied = (doneBytes: number, allBytes: number) => void;

/** Something that is not as it must be. */
export interface Finding {
  /** The group it is in; undefined where it is in none, or in all. */
  readonly groupId: Uint8Array | undefined;
  /** What, for people. */
  readonly text: string;
}

/** What was found. */
export interface Verification {
  readonly schema: number;
  readonly groups: number;
  readonly devices: number;
  readonly blobs: number;
  readonly controlBlobs: number;
  /** At most `findingsMax`; empty where all is well. */
  readonly findings: readonly Finding[];
}

export interface VerifyOptions {
  /** Rows looked at, of how many. */
  readonly onProgress?: (doneRows: number, allRows: number) => void;
  readonly signal?: AbortSignal;
}

/** A backup that lies in the data folder until it was taken. */
export interface BackupRequest {
  /** What the file is called there: 16 hexadecimal digits, by which what a kill leaves is known. */
  readonly name: string;
  /** With the relay's key. */
  readonly withIdentity: boolean;
  /** Milliseconds since the Unix epoch, for people. */
  readonly madeMs: number;
  readonly onCopied?: OnCopied;
  readonly signal?: AbortSignal;
}

/** How much of the file is free, and given back. */
export interface VacuumProgress {
  readonly givenBackBytes: number;
  readonly leftBytes: number;
}

export interface StoreUpkeep {
  /** Makes a backup in the data folder; gives back its path. Whoever asked removes it. */
  backup(request: BackupRequest): Promise<string>;
  /** Removes what backups that were cut short by a kill have left in the data folder. */
  clear(): Promise<void>;
  verify(options: VerifyOptions): Promise<Verification>;
  /** Gives free pages back to the file system, piece by piece, and the log's space after them. */
  vacuum(
    onProgress: (progress: VacuumProgress) => void,
    signal?: AbortSignal,
  ): Promise<VacuumProgress>;
}
