/** The rotating single-use tokens of a session; pure. See doc/data-protocol.md, "Tokens and replay". */
import { createHash, timingSafeEqual } from "node:crypto";
import { TesseraError, type Random } from "#core";
import { z } from "zod";
import { LANES_MAX } from "./protocol.ts";

const TOKEN = /^[A-Za-z0-9_-]{43}$/;

/** What a listener keeps: the SHA-256 (hexadecimal) of the tokens that it would accept. */
export interface TokenState {
  readonly accepted: readonly string[];
}

/** The state of every lane that has been used, by its number. */
export type LaneTokens = ReadonlyMap<number, TokenState>;

const StateSchema = z.object({
  accepted: z
    .array(z.string().regex(/^[0-9a-f]{64}$/))
    .min(1)
    .max(2),
});
const LaneSchema = z.coerce
  .number()
  .int()
  .min(1)
  .max(LANES_MAX - 1);
/** Without `lanes` as it was written before there were any. */
const LanesSchema = StateSchema.extend({
  lanes: z.record(z.string(), StateSchema).optional(),
});

/** 32 random bytes in base64url: a token for a negotiation. */
export function newToken(random: Random): string {
  return Buffer.from(random.bytes(32)).toString("base64url");
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/**
 * The first token of a lane: that of the negotiation for lane 0, and derived from it for the others,
 * so that both sides know it and none tells another.
 */
export function laneToken(token: string, lane: number): string {
  if (lane === 0) return token;
  return createHash("sha256").update(`tessera lane ${lane}`).update(token).digest("base64url");
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

export function encodeTokens(lanes: LaneTokens): string {
  const others = [...lanes].filter(([lane]) => lane !== 0);
  const first = lanes.get(0);
  return JSON.stringify({
    ...first,
    ...(others.length === 0 ? {} : { lanes: Object.fromEntries(others) }),
  });
}

/** @throws `transfer.state-invalid` (corrupt) */
export function decodeTokens(text: string): LaneTokens {
  try {
    const { accepted, lanes = {} } = LanesSchema.parse(JSON.parse(text));
    const others = Object.entries(lanes).map(
      ([lane, state]) => [LaneSchema.parse(lane), state] as const,
    );
    return new Map([[0, { accepted }], ...others]);
  } catch (cause) {
    throw stateInvalid(cause);
  }
}

const HeldSchema = z.object({ lanes: z.record(z.string(), z.string().regex(TOKEN)) });

/** What a receiver keeps: the newest token of every lane. */
export function encodeHeld(tokens: ReadonlyMap<number, string>): string {
  return JSON.stringify({ lanes: Object.fromEntries(tokens) });
}

/** A bare token, as it was kept before there were lanes, is that of lane 0. @throws as above */
export function decodeHeld(text: string): Map<number, string> {
  if (TOKEN.test(text)) return new Map([[0, text]]);
  try {
    const { lanes } = HeldSchema.parse(JSON.parse(text));
    return new Map(
      Object.entries(lanes).map(([lane, token]) => [
        lane === "0" ? 0 : LaneSchema.parse(lane),
        token,
      ]),
    );
  } catch (cause) {
    throw stateInvalid(cause);
  }
}

function stateInvalid(cause: unknown): TesseraError {
  return new TesseraError("corrupt", "transfer.state-invalid", "the token state is not valid", {
    remedy: "cancel the migration and start it again",
    cause,
  });
}
