/**
 * Puts a client that verifies nothing into a process of the benchmark: Node resolves four modules of
 * `client/` to those of this folder instead. Loaded by `--import` before anything else is.
 *
 * That is the whole seam. The client has none: no option, no variable, no export and no branch of it
 * leaves a check out, and this folder is no part of the package.
 */
import { register } from "node:module";

register("./resolve.js", import.meta.url);
