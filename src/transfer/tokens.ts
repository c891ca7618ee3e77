/** The rotating single-use tokens of a session; pure. See doc/data-protocol.md, "Tokens and replay". */
import { createHash, timingSafeEqual } from "node:crypto";
import { TesseraError, type Random } from "#core";
import { z } from "zod";

/** What a listener keeps: the SHA-256 (hexadecimal) of the tokens that it would accept. */
export interface TokenState {
  readonly accepted: readonly string[];
}

const StateSchema = z.object({
  accepted: z
    .array(z.string().regex(/^[0-9a-f]{64}$/))
    .min(1)
    .max(2),
});

/** 32 random bytes in base64url: a token for a negotiation. */
export function newToken(random: Random): string {
  return Buffer.from(random.bytes(32)).toString("base64url");
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** Before the first HELLO. */
export function firstTokens(token: string): TokenState {
  return { accepted: [hashOf(token)] };
}

/** Compares with every accepted token, always, each in constant time. */
function isAccepted(state: TokenState, token: string): boolean {
  const given = Buffer.from(hashOf(token), "hex");
  const equal = state.accepted.map((hash) => timingSafeEqual(Buffer.from(hash, "hex"), given));
  return equal.includes(true);
}

/** HELLO presents a token: the state with `fresh` beside it, or undefined where it is refused. */
export function presentToken(
  state: TokenState,
  token: string,
  fresh: string,
): TokenState | undefined {
  return isAccepted(state, token) ? { accepted: [hashOf(token), hashOf(fresh)] } : undefined;
}

/** READY: only the fresh token counts from now on. */
export function confirmToken(fresh: string): TokenState {
  return firstTokens(fresh);
}

export function encodeTokens(state: TokenState): string {
  return JSON.stringify(state);
}

/** @throws `transfer.state-invalid` (corrupt) */
export function decodeTokens(text: string): TokenState {
  try {
    return StateSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TesseraError("corrupt", "transfer.state-invalid", "the token state is not valid", {
      remedy: "cancel the migration and start it again",
      cause,
    });
  }
}
