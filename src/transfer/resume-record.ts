import { isDigest, type Digest, type World } from "#core";
import { z } from "zod";

/** How far a user data block has been received durably; see doc/data-protocol.md, "Resuming". */
export interface ResumeRecord {
  readonly session: string;
  readonly sizeBytes: number;
  /** Every block before this one is durable. */
  readonly nextBlock: number;
  /** Raw bytes of blocks so far. */
  readonly receivedBytes: number;
  readonly wireBytes: number;
  /** The earlier copy that the part was made of, and where that was. */
  readonly lineage?: { readonly digest: Digest; readonly path: string } | undefined;
}

const Count = z.int().min(0);
const RecordSchema = z.object({
  version: z.literal(2),
  session: z.string(),
  sizeBytes: z.int().min(1),
  nextBlock: Count,
  receivedBytes: Count,
  wireBytes: Count,
  lineage: z
    .object({
      digest: z.custom<Digest>((value) => isDigest(value), "not a digest"),
      path: z.string(),
    })
    .optional(),
});
const RECORD_BYTES_MAX = 8192;

/** The session's record, or undefined where there is none that counts. */
export async function loadRecord(
  world: World,
  path: string,
  session: string,
): Promise<ResumeRecord | undefined> {
  if ((await world.files.status(path)) === undefined) return undefined;
  const text = Buffer.from(await world.files.readFile(path, RECORD_BYTES_MAX)).toString("utf8");
  const parsed = RecordSchema.safeParse(parseJson(text));
  return parsed.success && parsed.data.session === session ? parsed.data : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Replaces the record atomically; what it says must be durable before. */
export async function saveRecord(world: World, path: string, record: ResumeRecord): Promise<void> {
  await world.files.writeFileAtomic(path, JSON.stringify({ version: 2, ...record }), 0o600);
}
