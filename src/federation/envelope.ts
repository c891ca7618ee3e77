/**
 * Signed messages between agents.
 *
 * ```
 * A                                            B
 * | request {from,to,session,action,nonce,...}  |
 * |-------------------------------------------->|  signature, addresses, expiry, replay, handler
 * |   answer {from,to,session,action,nonce,...} |
 * |<--------------------------------------------|  signature, addresses, the request's nonce
 * ```
 *
 * Version rule: `v` is 1; any other is refused. A new version gets a new XML namespace as well.
 */
import * as z from "zod";
import { canonicalJson, TesseraError, type Json } from "#core";
import type { AgentKey, MessageAction } from "./contract.ts";
import { boundedJson, malformed } from "./json.ts";
import { verifySignature } from "./key.ts";

/** Longest envelope; it fits a stanza of 256 KiB after escaping. */
const ENVELOPE_LENGTH_MAX = 200_000;
/** Sets these signatures apart from all others made with the agent's key. */
const CONTEXT = "tessera-federation-1\n";

const ACTIONS = [
  "offer-get",
  "plan-get",
  "component-offer",
  "component-find",
  "session-initiate",
  "session-info",
  "session-terminate",
] as const satisfies readonly MessageAction[];

const address = z.string().min(3).max(3071);

const headSchema = z.strictObject({
  v: z.literal(1),
  kind: z.enum(["request", "answer", "refusal"]),
  /** Full addresses. */
  from: address,
  to: address,
  session: z.string().min(1).max(256),
  action: z.enum(ACTIONS),
  nonce: z.string().min(16).max(64),
  /** Milliseconds since the Unix epoch, after which a request counts for nothing. */
  expires_ms: z.int().min(0),
});

export type Head = z.infer<typeof headSchema>;
export type Envelope = Head & { readonly body: Json };

/** An envelope on the wire: its canonical JSON and the signature over context and text. */
export interface Sealed {
  readonly text: string;
  /** Base64. */
  readonly signature: string;
}

function signedBytes(text: string): Uint8Array {
  return Buffer.from(CONTEXT + text, "utf8");
}

/** @throws `federation.too-large` (misuse) */
export function seal(key: AgentKey, envelope: Envelope): Sealed {
  const text = canonicalJson(envelope);
  if (Buffer.byteLength(text) > ENVELOPE_LENGTH_MAX) {
    const message = `a message of ${text.length} characters is too large`;
    throw new TesseraError("misuse", "federation.too-large", message, {
      subject: envelope.action,
      remedy: `send at most ${ENVELOPE_LENGTH_MAX} bytes, in several messages`,
    });
  }
  return { text, signature: key.sign(signedBytes(text)) };
}

/**
 * Verifies first, so that only what the pinned key signed is ever parsed.
 *
 * @throws `federation.forged`, `federation.malformed`
 */
export function unseal(publicKey: string, sealed: Sealed): Envelope {
  const { text, signature } = sealed;
  if (text.length > ENVELOPE_LENGTH_MAX) throw malformed("too long");
  if (!verifySignature(publicKey, signedBytes(text), signature)) {
    throw forged("the signature is not by the pinned key");
  }
  const value = boundedJson(text, ENVELOPE_LENGTH_MAX);
  if (!isRecord(value)) throw malformed("no object");
  const { body, ...head } = value;
  const result = headSchema.safeParse(head);
  if (!result.success || body === undefined) throw malformed("no envelope", result.error);
  if (canonicalJson(value) !== text) throw malformed("not in canonical form");
  return { ...result.data, body };
}

function isRecord(value: Json): value is { readonly [key: string]: Json | undefined } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function forged(reason: string, subject?: string): TesseraError {
  return new TesseraError("peer", "federation.forged", `a message is forged: ${reason}`, {
    ...(subject === undefined ? {} : { subject }),
    remedy: "compare the card of that cloud with its operator",
  });
}
