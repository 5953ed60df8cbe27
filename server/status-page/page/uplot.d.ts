/** The types of `/status/uplot.js`: the library's own. */
export { default } from "uplot";
