/** No links are kept: there is nothing to compare with them. */
import { LinkMemory as Kept } from "../../client/link-memory.ts";

export class LinkMemory extends Kept {
  override add(): void {}
}
