/** `composed.json`: what was composed from what, written last (doc/composition.md). */
import { createHash } from "node:crypto";
import { canonicalJson, isDigest } from "#core";
import type { Digest, Json, World } from "#core";
import { z } from "zod";

const FORMAT = "tessera-composed/1";
const BYTES_MAX = 2 ** 20;

const digest = z.custom<Digest>(isDigest, "must be a sha256 digest");
const output = z.strictObject({ digest, sizeBytes: z.int().min(0) });
const layer = output.extend({ name: z.string().min(1), uuid: z.string().length(36) });

const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Over all that the outputs are made from: if it is equal, they would be. */
  inputs: digest,
  appliance: digest,
  kernel: output,
  initramfs: output,
  commandLine: z.string(),
  /** Lowest first; the last is the glue. */
  layers: z.array(layer).min(3),
});

export type Output = z.output<typeof output>;
export type Layer = z.output<typeof layer>;
export type ComposedRecord = Omit<z.output<typeof schema>, "format">;

/** sha256 over the canonical JSON of a value. */
export function digestOf(value: Json): Digest {
  return `sha256:${createHash("sha256").update(canonicalJson(value)).digest("hex")}`;
}

/** Over every byte that the guest can see, and no path: equal on all clouds. */
export function composedDigest(record: ComposedRecord): Digest {
  return digestOf({
    commandLine: record.commandLine,
    initramfs: record.initramfs.digest,
    kernel: record.kernel.digest,
    layers: record.layers.map((item) => item.digest),
  });
}

/** The record in a directory; undefined where there is none or it is not one of this version. */
export async function readRecord(world: World, path: string): Promise<ComposedRecord | undefined> {
  const status = await world.files.status(path);
  if (status?.kind !== "file" || status.sizeBytes > BYTES_MAX) return undefined;
  const bytes = await world.files.readFile(path, BYTES_MAX);
  const result = schema.safeParse(parseJson(Buffer.from(bytes).toString("utf8")));
  if (!result.success) return undefined;
  const { format: _, ...record } = result.data;
  return record;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export async function writeRecord(
  world: World,
  path: string,
  record: ComposedRecord,
): Promise<void> {
  const text = `${JSON.stringify({ format: FORMAT, ...record }, undefined, 2)}\n`;
  await world.files.writeFileAtomic(path, text);
}
