/** Contents that follow from their names, so that whoever reads one knows whether it is whole. */

/** In every content: nothing but a device may ever hold it in the clear. */
export const canary = "never-in-the-clear";

/** A content of at least so many bytes. */
export function contentNamed(name: string, bytes: number): Uint8Array {
  const head = `${canary}|${name}|${bytes}|`;
  const filler = `${name}.`;
  const short = Math.max(0, bytes - head.length);
  return new TextEncoder().encode(head + filler.repeat(short / filler.length + 1).slice(0, short));
}

/** The name of a content; empty where it is one without; undefined where it is not whole. */
export function nameOf(data: Uint8Array): string | undefined {
  const text = new TextDecoder().decode(data);
  if (!text.startsWith(`${canary}|`)) return "";
  const [, name = "", bytes = ""] = text.split("|", 3);
  return text === new TextDecoder().decode(contentNamed(name, Number(bytes))) ? name : undefined;
}
