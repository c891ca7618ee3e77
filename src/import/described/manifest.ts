/** The manifest of an OVA: sums of its members. Pure. */
import { damaged } from "../errors.ts";

export type SumKind = "sha1" | "sha256" | "sha512";

export interface ManifestLine {
  readonly kind: SumKind;
  readonly file: string;
  /** Lower case. */
  readonly hex: string;
}

export const MANIFEST_BYTES_MAX = 2 ** 20;
const DIGITS: Readonly<Record<SumKind, number>> = { sha1: 40, sha256: 64, sha512: 128 };
const LINE = /^(SHA1|SHA256|SHA512)\s*\((.{1,255})\)\s*=\s*([0-9a-f]+)$/i;

function kindOf(text: string): SumKind {
  const kind = text.toLowerCase();
  return kind === "sha1" || kind === "sha512" ? kind : "sha256";
}

/**
 * @param what for messages
 * @throws `import.image-damaged` (corrupt)
 */
export function readManifest(text: string, what: string): ManifestLine[] {
  const lines = text.split("\n").map((line) => line.trim());
  return lines
    .filter((line) => line !== "")
    .map((line) => {
      const [, name = "", file = "", hex = ""] = LINE.exec(line) ?? [];
      const kind = kindOf(name);
      if (hex.length === DIGITS[kind]) return { kind, file, hex: hex.toLowerCase() };
      throw damaged(what, `its manifest has the line "${line.slice(0, 80)}"`);
    });
}
