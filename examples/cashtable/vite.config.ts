import { defineConfig, type Plugin } from "vite";

/** What the built page may do: its own code and styles, and sockets to whichever relay it is given. */
const policy = [
  "default-src 'none'",
  // WebAssembly is for the library's hashes; without it JavaScript does, and is slower.
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' blob:",
  // Receipts that are PDFs, shown by the browser itself.
  "frame-src blob:",
  "connect-src 'self' ws: wss:",
  "manifest-src 'self'",
  "worker-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types offline",
].join("; ");

/**
 * The policy stands in the page itself, for servers that set no headers. While developing, Vite's own code
 * would break it; in the app, Tauri has one of its own.
 */
const contentSecurityPolicy: Plugin = {
  name: "content-security-policy",
  apply: (_config, { command }) => command === "build" && !("TAURI_ENV_PLATFORM" in process.env),
  transformIndexHtml: () => [
    {
      tag: "meta",
      attrs: { "http-equiv": "Content-Security-Policy", content: policy },
      injectTo: "head-prepend",
    },
  ],
};

const library = (path: string) => new URL(`../../client/${path}`, import.meta.url).pathname;

export default defineConfig({
  root: new URL(".", import.meta.url).pathname,
  base: "./",
  plugins: [contentSecurityPolicy],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  // In the checkout the library is taken from its sources; an app of your own needs none of this.
  resolve: {
    alias: {
      "sync-relay/client/browser": library("platform/browser/index.ts"),
      "sync-relay/client/tauri": library("platform/tauri/index.ts"),
      "sync-relay/client": library("index.ts"),
      "sync-relay/yjs/browser": library("platform/browser/doc-store.ts"),
      "sync-relay/yjs": library("yjs/index.ts"),
    },
  },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  // Where Tauri looks for the page while developing.
  server: { port: 5173, strictPort: true },
  clearScreen: false,
});
