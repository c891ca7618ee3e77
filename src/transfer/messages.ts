/** The payloads of frames: decoded, then validated; see doc/data-protocol.md. */
import { TesseraError, isDigest, type Digest } from "#core";
import { BLOCK_BYTES } from "#block";
import { z } from "zod";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import {
  BASES_MAX,
  HELD_PARTS_MAX,
  BLOCKS_PER_FRAME_MAX,
  BYTES_PREFIX_BYTES,
  CREDIT_BYTES_MAX,
  CREDIT_BYTES_MIN,
  LANES_MAX,
  MAP_BYTES_MAX,
  RAW_BYTES_MAX,
  RECIPE_BYTES_MAX,
  RUNS_PER_FRAME_MAX,
  RUN_BYTES,
} from "./protocol.ts";

const Size = z.int().min(0);
const DigestText = z.custom<Digest>((value) => isDigest(value), "not a digest");
const Token = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const Version = z.int().min(1).max(65_535);
const Features = z.array(z.string().regex(/^[a-z0-9-]{1,32}$/)).max(32);
const Credit = z.int().min(CREDIT_BYTES_MIN).max(CREDIT_BYTES_MAX);
/** See `PRIORITY`; absent: background. */
const PriorityNumber = z.literal([0, 1, 2, 3]).optional();

export const HelloSchema = z.object({
  protocol: z.object({ min: Version, max: Version }),
  features: Features,
  role: z.enum(["receiver", "sender"]),
  session: z.string().regex(/^[\x21-\x7e]{1,128}$/),
  token: Token,
  /** Which connection of the session this is; absent: the first, 0. */
  lane: z
    .int()
    .min(0)
    .max(LANES_MAX - 1)
    .optional(),
});
export type Hello = z.infer<typeof HelloSchema>;

export const WelcomeSchema = z.object({ protocol: Version, features: Features, token: Token });
export type Welcome = z.infer<typeof WelcomeSchema>;

const ErrorSchema = z.object({
  code: z.string().max(64),
  message: z.string().max(512),
});

const Bases = z.array(DigestText).max(BASES_MAX).readonly();

/**
 * What a receiver asks for.
 *
 * - `blob`: bytes named by their digest; `base` is a blob that the receiver holds and that may serve
 *   as dictionary;
 * - `recipe`: the recipe of a component's image, delta-coded against that of one of `bases`,
 *   components that the receiver holds;
 * - `contents`: some contents of a component's recipe, which WANT names; `bases` are those that the
 *   sender accepted for the recipe, in its order; `from` raw bytes of them have come before; `held`
 *   are parts (content, offset, length) of them that need not come at all; `own` says that packs may
 *   refer to contents that came before in the stream;
 * - `userData`: the blocks from `block` on; `lineage` is the digest of the copy that the receiver
 *   still has; `references` says that pages of the appliance's components may be named;
 * - `blocks`: single reads of the user data block, which READ asks for;
 * - `memory`: carries `tunnel`, for a hypervisor's stream with REPLY for its return path, from the
 *   byte `from` on;
 * - `map`: where the user data block has what `name` says.
 */
export const OpenSchema = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("blob"),
    digest: DigestText,
    offset: Size,
    credit: Credit,
    priority: PriorityNumber,
    base: DigestText.optional(),
  }),
  z.object({
    kind: z.literal("recipe"),
    component: DigestText,
    bases: Bases,
    credit: Credit,
    priority: PriorityNumber,
  }),
  z.object({
    kind: z.literal("contents"),
    component: DigestText,
    bases: Bases,
    from: Size,
    held: z
      .array(z.tuple([Size, Size, Size]).readonly())
      .max(HELD_PARTS_MAX)
      .readonly()
      .optional(),
    own: z.boolean().optional(),
    credit: Credit,
    priority: PriorityNumber,
  }),
  z.object({
    kind: z.literal("userData"),
    block: Size,
    credit: Credit,
    priority: PriorityNumber,
    lineage: DigestText.optional(),
    references: z.boolean().optional(),
  }),
  z.object({ kind: z.literal("blocks"), credit: Credit, priority: PriorityNumber }),
  z.object({
    kind: z.literal("memory"),
    tunnel: Token,
    from: Size,
    credit: Credit,
    priority: PriorityNumber,
  }),
  z.object({
    kind: z.literal("map"),
    name: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
    credit: Credit,
    priority: PriorityNumber,
  }),
]);
export type Open = z.infer<typeof OpenSchema>;

/** `base` is the dictionary that the sender uses, when it holds what the receiver offered. */
export const BlobOpenedSchema = z.object({ sizeBytes: Size, base: DigestText.optional() });

/**
 * `sizeBytes`: of the encoded recipe before compression; `bases`: those that the sender holds too;
 * `base`: the one whose recipe is the dictionary.
 */
export const RecipeOpenedSchema = z.object({
  sizeBytes: z.int().min(1).max(RECIPE_BYTES_MAX),
  bases: Bases,
  base: DigestText.optional(),
});
/** Raw bytes of all wanted contents. */
export const ContentsOpenedSchema = z.object({ sizeBytes: Size });
/**
 * `changedBytes`: most raw bytes that may travel; `lineage`: the old copy that the sender has too, on
 * which everything builds; `references`: how many components may be named. With any of them CHANGES
 * come, else BLOCKS.
 */
export const UserDataOpenedSchema = z
  .object({
    sizeBytes: z.int().min(1),
    allocatedBytes: Size,
    changedBytes: Size.optional(),
    lineage: DigestText.optional(),
    references: z.int().min(0).max(256).optional(),
  })
  .refine(({ sizeBytes, allocatedBytes }) => allocatedBytes <= sizeBytes);

/** Of the disk that is read. */
export const BlocksOpenedSchema = z.object({ sizeBytes: z.int().min(1) });

/** What the sender has of the return path, and what its hypervisor has taken. */
export const MemoryOpenedSchema = z.object({ replied: Size, taken: Size });
/** Of the encoded map before compression. */
export const MapOpenedSchema = z.object({ sizeBytes: z.int().min(1).max(MAP_BYTES_MAX) });

export const BlobEndSchema = z.object({});
/** Of recipes, contents, memory and maps. */
export const ContentsEndSchema = z.object({});
/** `encodings` is what the sender says of this stream; for the receipt. */
export const UserDataEndSchema = z.object({
  digest: DigestText,
  allocatedBytes: Size,
  encodings: z
    .record(
      z.string().regex(/^(plain|(direct|solid)-\d{1,2})$/),
      z.object({ rawBytes: Size, wireBytes: Size }),
    )
    .optional(),
});

export function encodeJson(value: object): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** @throws `transfer.protocol-violation` */
export function decodeJson<T>(frame: Frame, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(parseText(frame.payload));
  if (parsed.success) return parsed.data;
  throw violation(`a payload is not valid: ${z.prettifyError(parsed.error)}`, parsed.error);
}

function parseText(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString("utf8"));
  } catch (cause) {
    throw violation("a payload is not JSON", cause);
  }
}

const CODE = /^transfer\.[a-z][a-z-]*$/;
// Control and format characters could deceive whoever reads the text on a terminal.
const UNPRINTABLE = /[\p{Cc}\p{Cf}]/gu;

/** The error that the peer reports; its text is not trusted. */
export function decodeError(frame: Frame): TesseraError {
  const { code, message } = decodeJson(frame, ErrorSchema);
  const text = `the other cloud says: ${message.replaceAll(UNPRINTABLE, " ")}`;
  return CODE.test(code)
    ? new TesseraError("peer", code, text)
    : peerError("protocol-violation", text);
}

/** What the peer may know of an error of ours: never a path or an address of this cloud. */
export function encodeError(error: TesseraError): Buffer {
  const own = error.code.startsWith("transfer.");
  const code = own ? error.code : "transfer.source-failed";
  const message = own ? error.message.slice(0, 500) : `the data cannot be read (${error.code})`;
  return encodeJson({ code, message: message.slice(0, 500) });
}

export interface Credit {
  readonly amountBytes: number;
  /** Share of the time, 0 to 1, in which the receiver had work lately. */
  readonly busyShare: number;
}

export function encodeCredit({ amountBytes, busyShare }: Credit): Buffer {
  const payload = Buffer.allocUnsafe(5);
  payload.writeUInt32BE(amountBytes);
  payload.writeUInt8(Math.round(busyShare * 255), 4);
  return payload;
}

export function decodeCredit({ payload }: Frame): Credit {
  return { amountBytes: payload.readUInt32BE(0), busyShare: payload.readUInt8(4) / 255 };
}

/** @throws `transfer.protocol-violation` above 2^53 - 1 */
export function readSize(payload: Buffer, at: number): number {
  const value = Number(payload.readBigUInt64BE(at));
  if (!Number.isSafeInteger(value)) throw violation("a number is above 2^53 - 1");
  return value;
}

export function bytesPrefix(offset: number, rawBytes: number): Buffer {
  const prefix = Buffer.allocUnsafe(BYTES_PREFIX_BYTES);
  prefix.writeBigUInt64BE(BigInt(offset), 0);
  prefix.writeUInt32BE(rawBytes, 8);
  return prefix;
}

export interface BytesHead {
  readonly offset: number;
  readonly rawBytes: number;
  readonly data: Buffer;
}

/** @throws `transfer.protocol-violation` */
export function decodeBytes({ payload }: Frame): BytesHead {
  const offset = readSize(payload, 0);
  const rawBytes = payload.readUInt32BE(8);
  if (rawBytes === 0 || rawBytes > RAW_BYTES_MAX) {
    throw violation(`a BYTES frame of ${rawBytes} raw bytes`);
  }
  return { offset, rawBytes, data: payload.subarray(BYTES_PREFIX_BYTES) };
}

export function encodeZeroes(offset: number, length: number): Buffer {
  const payload = Buffer.allocUnsafe(16);
  payload.writeBigUInt64BE(BigInt(offset), 0);
  payload.writeBigUInt64BE(BigInt(length), 8);
  return payload;
}

/** @throws `transfer.protocol-violation` */
export function decodeZeroes({ payload }: Frame): { offset: number; length: number } {
  const offset = readSize(payload, 0);
  const length = readSize(payload, 8);
  if (length === 0) throw violation("a ZEROES frame of no bytes");
  return { offset, length };
}

/** `count` blocks of user data from `index` on. */
export interface BlockRun {
  readonly index: number;
  readonly count: number;
}

export function blocksPrefix(runs: readonly BlockRun[]): Buffer {
  const prefix = Buffer.allocUnsafe(2 + runs.length * RUN_BYTES);
  prefix.writeUInt16BE(runs.length, 0);
  runs.forEach(({ index, count }, position) => {
    prefix.writeBigUInt64BE(BigInt(index), 2 + position * RUN_BYTES);
    prefix.writeUInt32BE(count, 10 + position * RUN_BYTES);
  });
  return prefix;
}

export interface BlocksHead {
  readonly runs: readonly BlockRun[];
  readonly rawBytes: number;
  /** The index after the last block. */
  readonly nextBlock: number;
  readonly data: Buffer;
}

/** Decodes and validates the runs for a device of `sizeBytes`. @throws `transfer.protocol-violation` */
export function decodeBlocks(
  { payload }: Frame,
  device: { readonly sizeBytes: number; readonly nextBlock: number },
): BlocksHead {
  const number = payload.readUInt16BE(0);
  const dataAt = 2 + number * RUN_BYTES;
  if (number === 0 || number > RUNS_PER_FRAME_MAX || dataAt > payload.length) {
    throw violation(`a BLOCKS frame of ${number} runs`);
  }
  const runs = Array.from({ length: number }, (_, position) => ({
    index: readSize(payload, 2 + position * RUN_BYTES),
    count: payload.readUInt32BE(10 + position * RUN_BYTES),
  }));
  return { ...validateRuns(runs, device), runs, data: payload.subarray(dataAt) };
}

function validateRuns(
  runs: readonly BlockRun[],
  device: { readonly sizeBytes: number; readonly nextBlock: number },
): { rawBytes: number; nextBlock: number } {
  const blocks = Math.ceil(device.sizeBytes / BLOCK_BYTES);
  let { nextBlock } = device;
  let total = 0;
  for (const { index, count } of runs) {
    if (count === 0 || index < nextBlock || index + count > blocks) {
      throw violation(`blocks ${index} and ${count} on, out of order or of the device`);
    }
    nextBlock = index + count;
    total += count;
  }
  if (total > BLOCKS_PER_FRAME_MAX) throw violation(`a BLOCKS frame of ${total} blocks`);
  const missing = nextBlock === blocks ? blocks * BLOCK_BYTES - device.sizeBytes : 0;
  return { rawBytes: total * BLOCK_BYTES - missing, nextBlock };
}
