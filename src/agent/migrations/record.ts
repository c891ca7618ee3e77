import * as z from "zod";
import { words } from "#api";
import { isDigest, type Digest } from "#core";
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
import { hotTermsShape, switchShape } from "./hot-words.ts";

const text = z.string().max(4096);
const time = z.number().min(0);
const digest = z.custom<Digest>(isDigest, "is not a sha256 digest");
const uuid = z.uuid();

const machineShape = z.object({ uuid, name: text, created_ms: time });

export const endpointShape = z.object({
  candidates: z
    .array(z.object({ host: z.string().min(1).max(255), port: z.int().min(1).max(65535) }))
    .min(1)
    .max(16),
  certificate: digest,
});

export const componentSignatureShape = z.object({
  component: digest,
  key: digest,
  signature: z.string().regex(/^[A-Za-z0-9+/]{86}==$/, "is no signature"),
});

export const stopShape = z.enum(["graceful", "forced", "was-stopped"]);

const contentsShape = z.object({ heldBytes: time, patchedBytes: time, missingBytes: time });

const common = {
  id: uuid,
  machine: machineShape,
  appliance: words.appliance,
  /** The other cloud. */
  peer: text,
  /** Whether the machine runs, and so must run again, at whichever side it ends. */
  wasRunning: z.boolean(),
  started_ms: time,
  ended_ms: time.optional(),
  error: words.errorReport.optional(),
  receipt: words.signedReceipt.optional(),
  /** The other side is known to have ended as well: nothing is left to tell it. */
  settled: z.boolean(),
};

const sourcePart = z.object({
  ...common,
  role: z.literal("source"),
  plan: words.plan,
  composed: digest,
  /** The hand-over token; only its digest leaves before `handed-over`. */
  handOver: text,
  /** Certificate that the destination shows on the data plane. */
  peerCertificate: digest,
  bytesPerSecondMax: z.number().positive().optional(),
  /** The machine is not stopped before. */
  at_ms: time.optional(),
  userData: z.object({ sizeBytes: time, allocatedBytes: time }),
  negotiate_ms: time.optional(),
});

const sourceShape = sourcePart.extend({
  /** Records of before hot migration lack it. */
  mode: z.enum(["cold", "warm"]).default("cold"),
  phase: z.enum(Object.keys(SOURCE) as [SourcePhase, ...SourcePhase[]]),
  stop: z.object({ how: stopShape, took_ms: time, off_ms: time }).optional(),
  /** What was asked for of the user data block at the destination. */
  format: words.diskFormat.optional(),
});

const hotSourceShape = sourcePart.extend({
  mode: z.literal("hot"),
  phase: z.enum(Object.keys(HOT_SOURCE) as [HotSourcePhase, ...HotSourcePhase[]]),
  hot: hotTermsShape,
  /** From the pause on. */
  switch: switchShape.optional(),
  /** When the hypervisor paused the machine, on our clock. */
  off_ms: time.optional(),
});

const destinationPart = z.object({
  ...common,
  role: z.literal("destination"),
  composed: digest,
  handOverDigest: digest,
  data: z.object({ endpoint: endpointShape, token: text }),
  /** Lets a restarted agent go on with the data session. */
  resumeToken: text.optional(),
  /** What the source brought of its components, judged when the proposal came. */
  signatures: z.array(componentSignatureShape).optional(),
  /** Components that were held when the proposal came. */
  held: z.array(digest),
  componentBytes: z.record(z.string(), time),
  /** By component: how its contents were had, and the bytes on the wire by cloud. */
  componentContents: z.record(z.string(), contentsShape).optional(),
  componentSources: z.record(z.string(), z.record(z.string(), time)).optional(),
  encodings: z.record(z.string(), z.object({ rawBytes: time, wireBytes: time })).optional(),
  userDataSizeBytes: time,
  wireBytes: time,
  took_ms: z.object({
    negotiate: time.optional(),
    components: time.optional(),
    compose: time.optional(),
    stop: time.optional(),
    userData: time.optional(),
    memory: time.optional(),
    boot: time.optional(),
  }),
  /** When the machine was off at the source, on our clock. */
  off_ms: time.optional(),
  on_ms: time.optional(),
});

const destinationShape = destinationPart.extend({
  /** Records of before hot migration lack it. */
  mode: z.enum(["cold", "warm"]).default("cold"),
  /** Of a warm one: the machine is not stopped before, by our clock. */
  notBefore_ms: time.optional(),
  /** Of the user data block here; absent: raw. */
  format: words.diskFormat.optional(),
  /** What came of the user data block while the machine ran. */
  replica: z
    .object({ passes: time, bytes: time, wireBytes: time, lineage: z.boolean() })
    .optional(),
  phase: z.enum(Object.keys(DESTINATION) as [DestinationPhase, ...DestinationPhase[]]),
  userData: z
    .object({
      digest,
      sizeBytes: time,
      allocatedBytes: time,
      wireBytes: time,
      lineage: z.boolean().optional(),
    })
    .optional(),
  stop: stopShape.optional(),
});

const hotDestinationShape = destinationPart.extend({
  mode: z.literal("hot"),
  phase: z.enum(Object.keys(HOT_DESTINATION) as [HotDestinationPhase, ...HotDestinationPhase[]]),
  hot: hotTermsShape,
  switch: switchShape.optional(),
  /** What was read of the user data block while the machine ran at the source. */
  ahead: z.object({ passes: time, bytes: time, lineage: z.boolean().optional() }).optional(),
  /** The switch does not come before, by our clock. */
  notBefore_ms: time.optional(),
  /** What was not here at the switch. */
  staleBytes: time.optional(),
  memory: z.object({ rawBytes: time, wireBytes: time }).optional(),
  armed_ms: time.optional(),
  token_ms: time.optional(),
  restarted: z.boolean().optional(),
});

export type SourcePart = z.output<typeof sourcePart>;
export type DestinationPart = z.output<typeof destinationPart>;
export type SourceRecord = z.output<typeof sourceShape>;
export type DestinationRecord = z.output<typeof destinationShape>;
export type HotSourceRecord = z.output<typeof hotSourceShape>;
export type HotDestinationRecord = z.output<typeof hotDestinationShape>;
export type MigrationRecord =
  | SourceRecord
  | DestinationRecord
  | HotSourceRecord
  | HotDestinationRecord;

const shape = z.union([hotSourceShape, hotDestinationShape, sourceShape, destinationShape]);

/** Decodes and validates what the journal holds. @throws zod's error */
export function parseRecord(json: string): MigrationRecord {
  return shape.parse(JSON.parse(json));
}
