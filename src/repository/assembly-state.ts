import { digestOf } from "./blobs.ts";
import { decodeAssemblyHeader, invalid } from "./decode.ts";

/** Most bytes of what the caller records with a checkpoint. */
export const STATE_BYTES_MAX = 4 * 2 ** 20;
const HEADER_BYTES_MAX = 4096;
export const ASSEMBLY_RECORD_BYTES_MAX = STATE_BYTES_MAX + HEADER_BYTES_MAX;
const LINE_FEED = 10;

/** What the last checkpoint of an assembly recorded. */
export interface AssemblyRecord {
  readonly sizeBytes: number;
  /** Of the file that the state describes. */
  readonly inode: number;
  readonly state: Uint8Array;
}

/** One line of JSON, then the state. */
export function encodeAssembly({ sizeBytes, inode, state }: AssemblyRecord): Uint8Array {
  const header = JSON.stringify({ sizeBytes, inode, stateDigest: digestOf(state) });
  return Buffer.concat([Buffer.from(`${header}\n`), state]);
}

/** @throws `repository.json-invalid` (corrupt) */
export function decodeAssembly(content: Uint8Array): AssemblyRecord {
  const end = content.subarray(0, HEADER_BYTES_MAX).indexOf(LINE_FEED);
  if (end < 0) throw invalid("assembly state", "it has no first line");
  const { sizeBytes, inode, stateDigest } = decodeAssemblyHeader(content.subarray(0, end));
  const state = content.subarray(end + 1);
  if (digestOf(state) !== stateDigest) throw invalid("assembly state", "it has another digest");
  return { sizeBytes, inode, state };
}
