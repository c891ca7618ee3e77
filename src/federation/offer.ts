import * as z from "zod";
import { canonicalJson, SUMMARY_HEADS_MAX, TesseraError, type Json, type Offer } from "#core";
import { boundedJson } from "./json.ts";

/** Largest offer as JSON text. */
const OFFER_LENGTH_MAX = 24 * 1024;

const word = z.string().min(1).max(128);
const words = z.array(word).max(64);
const amount = z.int().min(0);
const price = z.number().min(0).max(1e12);

const offerSchema = z.object({
  cloud: word,
  region: z.string().max(128),
  cpus: z.number().positive().max(1e9).exactOptional(),
  load: z.number().min(0).max(1e9).exactOptional(),
  cpusFree: z.number().min(0).max(1e9),
  memoryFreeBytes: amount,
  storageFreeBytes: amount,
  accelerators: words,
  cpuModels: words,
  formats: words,
  architectures: words,
  linkRate: z.number().positive().exactOptional(),
  egressPricePerGB: price,
  receives: z.boolean(),
  repository: z.object({
    components: amount,
    heads: z.array(z.string().regex(/^[0-9a-f]{16}$/)).max(SUMMARY_HEADS_MAX),
    complete: z.boolean(),
  }),
  seq: amount,
  expires_ms: amount,
});

/** @throws `federation.offer-too-large` (bug) */
export function encodeOffer(offer: Offer): string {
  const text = canonicalJson({ ...offer, repository: { ...offer.repository } });
  if (text.length <= OFFER_LENGTH_MAX) return text;
  throw new TesseraError("bug", "federation.offer-too-large", "an offer has too many words", {
    subject: offer.cloud,
  });
}

/** @throws `federation.malformed` */
export function decodeOffer(text: string): Offer {
  return validateOffer(boundedJson(text, OFFER_LENGTH_MAX));
}

/** @throws `federation.malformed` */
export function validateOffer(value: Json): Offer {
  const result = offerSchema.safeParse(value);
  if (result.success) return result.data;
  throw new TesseraError("peer", "federation.malformed", "an offer is not valid", {
    cause: result.error,
  });
}
