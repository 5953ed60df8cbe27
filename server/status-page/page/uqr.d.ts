/** The types of `/status/uqr.js`: the library's own. */
export { encode } from "uqr";
