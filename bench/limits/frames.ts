/**
 * What the limits' clients and servers say: the least that does the work. The
 * first frame of a connection is in the clear and names the client and its
 * group; every later one is sealed and begins with one of these bytes.
 */

/** The first frame: client (u32), group (u32), little-endian, as all numbers here. */
export const helloBytes = 8;

export const frameType = {
  /** Up: request (u32), payload. Down: request (u32) of everything stored, one after another. */
  push: 1,
  /** Up: nothing more; from now on the group's new rows come. Down: rows; at first none, at once. */
  deliver: 2,
  /** Up: cursor (u32) to start after; 0 for all. Down: rows, as many frames as it takes. */
  pull: 3,
} as const;

/** Before the payload of a push: type and request. */
export const pushHeaderBytes = 5;
/** Before the payload of a row sent down: cursor and length. */
export const rowHeaderBytes = 8;
