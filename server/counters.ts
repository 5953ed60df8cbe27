/**
 * What the relay counts. One flat record of numbers: each is read by name where
 * it is shown. Whatever is dropped or put off has a counter of its own.
 */
export function newCounters() {
  return {
    connectionsOpened: 0,
    connectionsRefused: 0,
    handshakesFinished: 0,
    handshakesFailed: 0,
    /** Connections closed because of what they sent. */
    protocolFaults: 0,
    commits: 0,
    commitsFailed: 0,
    blobsStored: 0,
    pushesStored: 0,
    pushesRefused: 0,
    /** Sessions that were sent a commit's blobs, and those that were told to pull instead. */
    delivered: 0,
    notified: 0,
    /** Blobs that were sent as they were committed, each once for every session. */
    blobsDelivered: 0,
    /** Times that a connection's presence and witnesses were put off because too much waited. */
    putOff: 0,
    pagesSent: 0,
    snapshotsStored: 0,
    objectsStored: 0,
    objectsCollected: 0,
    objectBytesStored: 0,
    /** What went from logs: headers with what was left of their blobs, bodies by reason, and bytes in all. */
    headersTrimmed: 0,
    bodiesExpired: 0,
    bodiesDeleted: 0,
    bytesTrimmed: 0,
    /** Devices that their push services were asked to wake, and those that this was given up for, by why. */
    wakeUpsSent: 0,
    wakeUpsRefused: 0,
    wakeUpsUnreachable: 0,
    /** So many waited that no more were taken. */
    wakeUpsDropped: 0,
    /** Registrations that a push service no longer knew. */
    wakeUpsGone: 0,
    bytesReceived: 0,
    bytesSent: 0,
  };
}

export type Counters = ReturnType<typeof newCounters>;
