/**
 * What two agents say to each other about a migration, inside the signed envelope of the
 * federation room.
 *
 *     source                                        destination
 *       | plan-get {appliance, sizes}          ->      |   what do you hold, would you take it?
 *       |      <- {held, bases, certificate, objections} |
 *       | session-initiate {proposal}          ->      |
 *       |      <- {status: accepted}                   |
 *       | session-info {status} ...            <->     |   repeated, in both directions
 *
 * Version rule: a question or proposal bears the lowest version that has all that it uses: 1 for a cold
 * migration, 2 for a hot one, 3 for a warm one, 4 where a format is asked for. A receiver answers a question of a higher version than it speaks with an
 * objection, and refuses such a proposal with `migration.version-unsupported`; members that it does not
 * know are ignored. So a cloud that speaks 1 alone takes cold migrations as ever.
 */
import * as z from "zod";
import { words } from "#api";
import {
  isDigest,
  TesseraError,
  type Digest,
  type DiskFormat,
  type Json,
  type MigrationMode,
} from "#core";
import {
  DESTINATION,
  HOT_DESTINATION,
  HOT_SOURCE,
  SOURCE,
  type DestinationPhase,
  type HotDestinationPhase,
  type HotSourcePhase,
  type SourcePhase,
} from "#migration";
import { descriptionShape, hotTermsShape, switchShape } from "./hot-words.ts";
import { componentSignatureShape, endpointShape, stopShape } from "./record.ts";
import { probeAnswerShape, probeQuestionShape } from "./shared-probe.ts";

/** The highest version that we speak. */
export const MIGRATION_VERSION = 4;

/** The lowest version that has what a migration of this mode needs. */
export const VERSIONS: Readonly<Record<MigrationMode, number>> = { cold: 1, hot: 2, warm: 3 };
const FORMAT_VERSION = 4;

export function versionOf(mode: MigrationMode, format: DiskFormat | undefined): number {
  return format === undefined ? VERSIONS[mode] : FORMAT_VERSION;
}

/** Most components that are named as bases for one. */
export const BASES_MAX = 16;

const uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, "is not a UUID");
const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "is not a machine's name");
const digest = z.custom<Digest>(isDigest, "is not a sha256 digest");
const token = z.string().min(16).max(256);
const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const time = z.number().min(0);

/** Signatures of the machine's components, so that they are judged before anything is fetched. */
const signatures = z.array(componentSignatureShape).max(4096).optional();

const planQuestion = z.object({
  version: z.number().int().min(1),
  appliance: words.appliance,
  machine: uuid,
  name,
  userDataBytes: bytes,
  /** Asks for a hot migration of what the hypervisor runs. Since version 2. */
  hot: descriptionShape.optional(),
  /** Wanted of the user data block; absent: the destination's own. Since version 4. */
  format: words.diskFormat.optional(),
  /** Whether both reach one storage; with `hot` only. */
  shared: probeQuestionShape.optional(),
  signatures,
});

const planAnswer = z.object({
  held: z.array(digest).max(4096),
  /** For components that it lacks: those that it would use as bases, the nearest first. */
  bases: z
    .array(z.object({ component: digest, bases: z.array(digest).max(BASES_MAX) }))
    .max(4096)
    .optional(),
  certificate: digest,
  /** Which the user data block would have there; absent where it would be raw, or is not told. */
  format: words.diskFormat.optional(),
  /** Digest of the copy of the machine's user data that is kept there. */
  lineage: digest.optional(),
  /** Why the machine would not be taken; empty when it would. */
  objections: z.array(z.string().max(1024)).max(64),
  /** To a question about a hot migration. */
  hot: z
    .object({
      postcopy: z.boolean(),
      /** A copy of its user data is there, of whatever age. */
      kept: z.boolean().optional(),
    })
    .optional(),
  shared: probeAnswerShape.optional(),
});

const proposalPart = z.object({
  version: z.number().int().min(1),
  machine: z.object({ uuid, name, created_ms: time }),
  appliance: words.appliance,
  signatures,
  /** Digest of the composed image at the source: the destination must compose the same. */
  composed: digest,
  wasRunning: z.boolean(),
  userData: z.object({ sizeBytes: bytes, allocatedBytes: bytes }),
  handOverDigest: digest,
  data: z.object({ endpoint: endpointShape, token }),
});

/** As in the question. */
const format = words.diskFormat.optional();

const proposal = z.discriminatedUnion("mode", [
  proposalPart.extend({ mode: z.literal("cold"), format }),
  /** `wait_ms`: the machine is not stopped before so long from now. */
  proposalPart.extend({ mode: z.literal("warm"), format, wait_ms: time.optional() }),
  proposalPart.extend({
    mode: z.literal("hot"),
    hot: hotTermsShape,
    /** The switch does not come before so long from now. */
    wait_ms: time.optional(),
  }),
]);

const sourceStatus = z.object({
  phase: z.enum([...(Object.keys(SOURCE) as [SourcePhase, ...SourcePhase[]]), "unknown"]),
  data: z.object({ endpoint: endpointShape, token }).optional(),
  negotiate_ms: time.optional(),
  stop: z.object({ how: stopShape, took_ms: time, ago_ms: time }).optional(),
  handOver: token.optional(),
  signature: z.string().max(256).optional(),
  error: words.errorReport.optional(),
});

const destinationStatus = z.object({
  phase: z.enum([
    ...(Object.keys(DESTINATION) as [DestinationPhase, ...DestinationPhase[]]),
    "unknown",
  ]),
  receipt: words.signedReceipt.optional(),
  error: words.errorReport.optional(),
});

const hotSourceStatus = z.object({
  phase: z.enum([...(Object.keys(HOT_SOURCE) as [HotSourcePhase, ...HotSourcePhase[]]), "unknown"]),
  data: z.object({ endpoint: endpointShape, token }).optional(),
  negotiate_ms: time.optional(),
  /** From the pause on. */
  switch: switchShape.extend({ ago_ms: time }).optional(),
  handOver: token.optional(),
  signature: z.string().max(256).optional(),
  error: words.errorReport.optional(),
});

const hotDestinationStatus = z.object({
  phase: z.enum([
    ...(Object.keys(HOT_DESTINATION) as [HotDestinationPhase, ...HotDestinationPhase[]]),
    "unknown",
  ]),
  /** Of the user data block that was not there at the switch. */
  filling: z.object({ doneBytes: bytes, totalBytes: bytes }).optional(),
  receipt: words.signedReceipt.optional(),
  error: words.errorReport.optional(),
});

export type PlanAnswer = z.output<typeof planAnswer>;
export type Proposal = z.output<typeof proposal>;
export type SourceStatus = z.output<typeof sourceStatus>;
export type DestinationStatus = z.output<typeof destinationStatus>;
export type HotSourceStatus = z.output<typeof hotSourceStatus>;
export type HotDestinationStatus = z.output<typeof hotDestinationStatus>;

function decoder<T>(what: string, schema: z.ZodType<T>): (from: string, body: Json) => T {
  return (from, body) => {
    const result = schema.safeParse(body);
    if (result.success) return result.data;
    const [issue] = result.error.issues;
    const place = issue?.path.join(".") ?? "";
    const message = `${from} sent a bad ${what}: ${place} ${issue?.message ?? ""}`;
    throw new TesseraError("peer", "migration.message-invalid", message, { subject: from });
  };
}

export const decodePlanQuestion = decoder("plan question", planQuestion);
export const decodePlanAnswer = decoder("plan answer", planAnswer);
export const decodeProposal = decoder("proposal", proposal);
export const decodeSourceStatus = decoder("status", sourceStatus);
export const decodeDestinationStatus = decoder("status", destinationStatus);
export const decodeHotSourceStatus = decoder("status", hotSourceStatus);
export const decodeHotDestinationStatus = decoder("status", hotDestinationStatus);

/** The migration's id names files and pins: it must be a UUID. @throws `migration.message-invalid` */
export const decodeSession: (from: string, session: Json) => string = decoder("session", uuid);

/** A message as JSON: members that are undefined vanish. */
export function encode(message: object): Json {
  return JSON.parse(JSON.stringify(message)) as Json;
}
