/**
 * What a destination and a third cloud say to each other about components, inside the signed
 * envelope of the federation room; specified in doc/gathering.md.
 *
 *     destination                                         another member
 *       | component-offer {components, certificate}  ->      |   do you hold these, would you send?
 *       |      <- {components, data, ...}                    |   these, there, until then
 *       | component-offer {components: []}           ->      |   no more, thank you
 *
 * Members that are not known are ignored. The session is the migration's id.
 */
import * as z from "zod";
import { isDigest, TesseraError, type Digest, type Json } from "#core";

/** Most components in one question. */
export const COMPONENTS_MAX = 256;

const digest = z.custom<Digest>(isDigest, "is not a sha256 digest");
const components = z.array(digest).max(COMPONENTS_MAX);

const question = z.object({
  version: z.number().int().min(1),
  /** Those that are wanted; none ends what was offered before. */
  components,
  /** sha256 of the certificate that the asker shows on the data plane. */
  certificate: digest,
});

const answer = z.object({
  /** Of those asked for, those that would be sent; none where this cloud does not help. */
  components,
  data: z
    .object({
      session: z.string().regex(/^[\x21-\x7e]{1,128}$/, "is not a session"),
      token: z.string().min(16).max(256),
      endpoint: z.object({
        candidates: z
          .array(z.object({ host: z.string().min(1).max(255), port: z.int().min(1).max(65_535) }))
          .min(1)
          .max(16),
        certificate: digest,
      }),
    })
    .optional(),
  /** The uplink as configured, or the limit of the session where that is less. */
  bitsPerSecond: z.number().positive().optional(),
  pricePerGB: z.number().min(0).max(1e9),
});

export type HelpQuestion = z.output<typeof question>;
export type HelpAnswer = z.output<typeof answer>;

function decode<T>(what: string, schema: z.ZodType<T>, from: string, body: Json): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const message = `${from} sent a bad ${what}: ${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`;
  throw new TesseraError("peer", "migration.message-invalid", message, { subject: from });
}

/** @throws `migration.message-invalid` (peer) */
export function decodeQuestion(from: string, body: Json): HelpQuestion {
  return decode("question for components", question, from, body);
}

/** @throws `migration.message-invalid` (peer) */
export function decodeAnswer(from: string, body: Json): HelpAnswer {
  const decoded = decode("offer of components", answer, from, body);
  if (decoded.components.length === 0 || decoded.data !== undefined) return decoded;
  const message = `${from} offers components but does not say where`;
  throw new TesseraError("peer", "migration.message-invalid", message, { subject: from });
}
