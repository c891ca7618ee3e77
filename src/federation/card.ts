import * as z from "zod";
import { canonicalJson, TesseraError, type Digest } from "#core";
import { domainOf, isBareJid, isDomain } from "#xmpp";
import type { PeerCard } from "./contract.ts";
import { boundedJson } from "./json.ts";
import { fingerprintOf, isPublicKey } from "./key.ts";

const CARD_LENGTH_MAX = 64 * 1024;
const FORMAT = "tessera-card/1";
const HOST = /^[A-Za-z0-9][A-Za-z0-9.:-]{0,252}$/;

const cardSchema = z
  .strictObject({
    cloud: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
    domain: z.string().refine(isDomain, "not a domain"),
    jid: z.string().refine(isBareJid, "not an address"),
    agentKey: z.string().refine(isPublicKey, "not an Ed25519 key"),
    xmppCa: z
      .string()
      .max(32 * 1024)
      .exactOptional(),
    xmppAddress: z
      .strictObject({ host: z.string().regex(HOST), port: z.int().min(1).max(65535) })
      .exactOptional(),
  })
  .refine((card) => domainOf(card.jid) === card.domain, "the address is not of the domain");

const fileSchema = z.looseObject({ format: z.literal(FORMAT) });

/** The text of a card, for handing out: JSON, one member a line. */
export function encodeCard(card: PeerCard): string {
  return `${JSON.stringify({ format: FORMAT, ...card }, null, 2)}\n`;
}

/**
 * Reads a card. It says nothing about whether the card is genuine: people compare fingerprints.
 *
 * @throws `federation.card-invalid` (misuse)
 */
export function parseCard(text: string): PeerCard {
  try {
    const { format: _, ...members } = fileSchema.parse(boundedJson(text, CARD_LENGTH_MAX));
    return cardSchema.parse(members);
  } catch (cause) {
    throw new TesseraError("misuse", "federation.card-invalid", "this is not a cloud's card", {
      remedy: "ask that cloud for its card again",
      cause,
    });
  }
}

/** Checks a card that came by another way than as text. @throws `federation.card-invalid` */
export function validateCard(card: PeerCard): PeerCard {
  return parseCard(canonicalJson({ format: FORMAT, ...card }));
}

/** What people compare over another channel: the digest of the agent's key. */
export function cardFingerprint(card: PeerCard): Digest {
  return fingerprintOf(card.agentKey);
}
