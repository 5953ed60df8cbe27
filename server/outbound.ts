/**
 * What waits to be sent on all connections together. Each may have some MiB waiting, which is much times
 * thousands; so the more waits in all, the less one may add: a connection takes at most what is left of the
 * whole. Who reads slowly holds what it has, who reads goes on with small pages, and nobody is cut off.
 */

/** What may wait in all, in bytes, as far as connections can have less than they would. */
export const outboundAllBytesMax = 256 * 1024 * 1024;
/** What a connection may have waiting and a page holds at most, in bytes, however much waits in all. */
export const outboundLeastBytes = 16 * 1024;

export class Outbound {
  /** What waits now, in bytes: connections keep it. */
  bytes = 0;

  /** What one connection may have waiting, or one page hold, now: of the most it may ever. */
  boundOf(bytesMax: number): number {
    const left = Math.max(outboundLeastBytes, outboundAllBytesMax - this.bytes);
    return Math.min(bytesMax, left);
  }
}
