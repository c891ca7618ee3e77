import { TesseraError, hasCode, mergeRanges, type ByteRange, type Processes } from "#core";
import { z } from "zod";

const MAP_BYTES_MAX = 256 * 1024 * 1024;

const MapSchema = z.array(
  z.object({
    start: z.int().min(0),
    length: z.int().min(1),
    zero: z.boolean(),
    data: z.boolean(),
  }),
);

type MapRow = z.infer<typeof MapSchema>[number];

function mapInvalid(path: string, message: string, cause?: unknown): TesseraError {
  return new TesseraError("environment", "block.map-invalid", message, { subject: path, cause });
}

function decodeMap(output: Uint8Array, path: string): unknown {
  try {
    return JSON.parse(Buffer.from(output).toString("utf8"));
  } catch (cause) {
    throw mapInvalid(path, "qemu-img map printed no JSON", cause);
  }
}

/** Rows must follow each other and cover the device, as QEMU documents them. */
function validateMap(value: unknown, path: string, sizeBytes: number): MapRow[] {
  const parsed = MapSchema.safeParse(value);
  if (!parsed.success) throw mapInvalid(path, "qemu-img map printed other JSON", parsed.error);
  let end = 0;
  for (const row of parsed.data) {
    if (row.start !== end) throw mapInvalid(path, `qemu-img map left a gap at byte ${end}`);
    end = row.start + row.length;
  }
  if (end < sizeBytes) throw mapInvalid(path, `qemu-img map ended at byte ${end}`);
  return parsed.data;
}

/** The ranges that may hold other bytes than zero, from the output of `qemu-img map`. */
export function parseMap(output: Uint8Array, path: string, sizeBytes: number): ByteRange[] {
  const ranges = validateMap(decodeMap(output, path), path, sizeBytes)
    .filter((row) => row.data && !row.zero && row.start < sizeBytes)
    .map(({ start, length }) => {
      return { offset: start, length: Math.min(length, sizeBytes - start) };
    });
  return mergeRanges(ranges);
}

/**
 * The allocated ranges of a raw file by `qemu-img map` (QEMU documentation, "qemu-img"), also while
 * a guest has it open (`-U`): Node has no `SEEK_DATA`.
 *
 * @throws `block.program-missing`, `block.map-failed`, `block.map-invalid` (environment)
 */
export async function mapFile(
  processes: Processes,
  path: string,
  sizeBytes: number,
): Promise<ByteRange[]> {
  const args = ["map", "-U", "-f", "raw", "--output=json", path];
  const options = { outputBytesMax: MAP_BYTES_MAX };
  const result = await processes.run("qemu-img", args, options).catch((cause: unknown) => {
    if (!hasCode(cause, "system.program-missing")) throw cause;
    throw new TesseraError("environment", "block.program-missing", "qemu-img is not installed", {
      subject: "qemu-img",
      remedy: "install the package qemu-utils",
      cause,
    });
  });
  if (result.exitCode === 0) return parseMap(result.output, path, sizeBytes);
  const message = `qemu-img map failed: ${result.errorText.trim()}`;
  throw new TesseraError("environment", "block.map-failed", message, { subject: path });
}
