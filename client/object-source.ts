/** What an object is made of: content that can be read again, from any place on. */
import { UsageError } from "./usage-error.ts";

/** Content that can be opened more than once: an upload reads it twice, and again after a cut. */
export interface ObjectSource {
  /** Its bytes from `from` on. The same bytes each time: what changed in between is noticed, and not sent. */
  open(from: number): AsyncIterable<Uint8Array>;
}

/** The part of a `Blob` that is needed: a `File` of a page, or `fs.openAsBlob` in Node. */
export interface BlobLike {
  /** Its length in bytes. */
  readonly size: number;
  /** Its bytes from `from` on, to be read as a stream. */
  slice(from: number): { stream(): AsyncIterable<Uint8Array> | ReadableBytes };
}

/** The part of a `ReadableStream` that is needed: not every engine lets one be iterated. */
export interface ReadableBytes {
  getReader(): {
    read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
    cancel(): Promise<void>;
  };
}

/** What `putObject` takes. */
export type ObjectContent = Uint8Array | BlobLike | ObjectSource;

/** A source of what the app gave. Throws `UsageError` for what can be read only once. */
export function sourceOf(content: ObjectContent): ObjectSource {
  if (content instanceof Uint8Array) {
    return {
      async *open(from) {
        if (from < content.byteLength) yield content.subarray(from);
      },
    };
  }
  if ("open" in content) return content;
  if ("slice" in content) return { open: (from) => streamOf(content.slice(from).stream()) };
  throw new UsageError(
    "an object is read twice, before it is sent and while it is: give bytes, a Blob or something with `open`, not a stream",
  );
}

async function* streamOf(
  stream: AsyncIterable<Uint8Array> | ReadableBytes,
): AsyncGenerator<Uint8Array> {
  if (!("getReader" in stream)) {
    yield* stream;
    return;
  }
  const reader = stream.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        ended = true;
        return;
      }
      if (value !== undefined) yield value;
    }
  } finally {
    if (!ended) await reader.cancel();
  }
}
