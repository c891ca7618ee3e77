import { TesseraError } from "./errors.ts";

/** `sha256:` and 64 lower-case hexadecimal digits (OCI image specification, descriptor digests). */
export type Digest = `sha256:${string}`;

const PATTERN = /^sha256:[0-9a-f]{64}$/;

export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && PATTERN.test(text);
}

/** @throws `core.digest-invalid` (misuse) */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new TesseraError("misuse", "core.digest-invalid", `"${text}" is not a sha256 digest`, {
    subject: text,
    remedy: 'write "sha256:" and 64 lower-case hexadecimal digits',
  });
}

/** The 64 hexadecimal digits. */
export function hexOf(digest: Digest): string {
  return digest.slice("sha256:".length);
}

/** Twelve digits for people. */
export function shortDigest(digest: Digest): string {
  return hexOf(digest).slice(0, 12);
}
