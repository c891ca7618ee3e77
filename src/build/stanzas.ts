/** Records of `Field: value` lines, separated by empty lines, as dpkg, apt and debconf write them. */
export interface Stanza {
  /** The record as it stands, without a final newline. */
  readonly text: string;
  /** First line of each field by its name; see {@link field} for the rest. */
  readonly fields: ReadonlyMap<string, string>;
}

/** Splits a file into records. Lines that are no field and no continuation are kept as text only. */
export function parseStanzas(text: string): Stanza[] {
  return text
    .split(/\n(?:[ \t]*\n)+/)
    .map((part) => part.replace(/^\n+|\n+$/g, ""))
    .filter((part) => part !== "")
    .map(parseStanza);
}

function parseStanza(text: string): Stanza {
  const fields = new Map<string, string>();
  let current: string | undefined;
  for (const line of text.split("\n")) {
    const match = /^([!-9;-~]+):[ \t]*(.*)$/.exec(line);
    if (/^[ \t]/.test(line) && current !== undefined) {
      fields.set(current, `${fields.get(current) ?? ""}\n${line.trim()}`);
    } else if (match !== null) {
      current = match[1] ?? "";
      if (!fields.has(current)) fields.set(current, match[2] ?? "");
    }
  }
  return { text, fields };
}

/** A field's value with its continuation lines joined by spaces; empty when it is not there. */
export function field(stanza: Stanza, name: string): string {
  return (stanza.fields.get(name) ?? "").replaceAll("\n", " ").trim();
}

/** Records as a file: each followed by an empty line, the last by a newline. */
export function formatStanzas(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join("\n");
}
