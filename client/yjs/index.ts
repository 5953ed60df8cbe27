/** A Yjs document that is the same on all devices of a group. */
export {
  type DocChange,
  type DocStore,
  MemoryDocStore,
  type StoredDoc,
  type StoredUpdate,
} from "./doc-store.ts";
export { updateType } from "./parts.ts";
export {
  type YjsClient,
  type YjsClientOptions,
  type YjsProblem,
  YjsProvider,
  type YjsProviderOptions,
} from "./provider.ts";
