/** What a file beside an image says of its machine. */
import { TesseraError } from "#core";
import type { ImageFormat } from "../format.ts";

export interface DescribedDisk {
  /** Of the file; of an OVA its name in the archive. */
  readonly file: string;
  readonly format?: ImageFormat;
}

export interface MachineDescription {
  readonly kind: "ovf" | "libvirt";
  readonly name: string;
  readonly cpus?: number;
  readonly memoryBytes?: number;
  /** What the machine had there and has not here, for people. */
  readonly notCarried: readonly string[];
}

/** As it is read, before a disk is chosen. */
export interface ReadDescription extends MachineDescription {
  readonly disks: readonly DescribedDisk[];
}

const CPUS_MAX = 255;
const MEMORY_BYTES_MAX = 2 ** 44;
const MIB = 2 ** 20;
const NOTES_MAX = 64;
const NOTE_LENGTH_MAX = 200;

/** A number of processors that a machine can have; undefined for any other text. */
export function cpusOf(text: string): number | undefined {
  const cpus = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  return cpus >= 1 && cpus <= CPUS_MAX ? cpus : undefined;
}

/** Bytes, rounded up to whole MiB; undefined for what is no size of a memory. */
export function memoryOf(text: string, unitBytes: number | undefined): number | undefined {
  if (unitBytes === undefined || !/^\d{1,15}$/.test(text)) return undefined;
  const bytes = Math.ceil((Number(text) * unitBytes) / MIB) * MIB;
  return bytes > 0 && bytes <= MEMORY_BYTES_MAX ? bytes : undefined;
}

/** One line, bounded, of what stands in the file. */
export function noteOf(text: string): string {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length > NOTE_LENGTH_MAX ? `${line.slice(0, NOTE_LENGTH_MAX - 1)}…` : line;
}

export function boundedNotes(notes: readonly string[]): string[] {
  const all = notes.map(noteOf);
  if (all.length <= NOTES_MAX) return all;
  return [...all.slice(0, NOTES_MAX), `and ${all.length - NOTES_MAX} more`];
}

function ambiguous(what: string, disks: readonly DescribedDisk[]): TesseraError {
  const names = noteOf(disks.map(({ file }) => file).join(", "));
  const message = `${what} has several disks: ${names}`;
  return new TesseraError("misuse", "import.disk-ambiguous", message, {
    subject: what,
    remedy: "say which holds the system with --disk; the others are not taken",
  });
}

/**
 * The disk that holds the system: the one that is wanted, or the only one.
 *
 * @throws `import.disk-not-found`, `import.disk-ambiguous` (misuse)
 */
export function chooseDisk(
  what: string,
  disks: readonly DescribedDisk[],
  wanted: string | undefined,
): DescribedDisk {
  const found = wanted === undefined ? disks : disks.filter(({ file }) => file === wanted);
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  if (first !== undefined) throw ambiguous(what, found);
  const message = `${what} has no disk${wanted === undefined ? "" : ` "${noteOf(wanted)}"`}`;
  throw new TesseraError("misuse", "import.disk-not-found", message, {
    subject: what,
    remedy: `the disks are: ${noteOf(disks.map(({ file }) => file).join(", ")) || "none"}`,
  });
}
