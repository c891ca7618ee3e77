import { createHash, timingSafeEqual } from "node:crypto";
import type { Digest } from "#core";

export function digestOfToken(token: string): Digest {
  return `sha256:${createHash("sha256").update(token).digest("hex")}`;
}

/** Compares in constant time. */
export function isTokenOf(token: string, digest: Digest): boolean {
  return timingSafeEqual(Buffer.from(digestOfToken(token)), Buffer.from(digest));
}
