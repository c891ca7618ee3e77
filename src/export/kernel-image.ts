/** A kernel that boot loaders start, made of the unpacked one that components have. */
import type { ContentSource } from "#image";
import { bootCode } from "./boot-code.ts";
import { unsuitable } from "./errors.ts";

const ELF_MAGIC = 0x7f45_4c46;
const X86_64 = 62;
const LOAD = 1;
const SEGMENTS_MAX = 64;
const KERNEL_BYTES_MAX = 512 * 2 ** 20;
const ALIGNMENT_BYTES = 2 * 2 ** 20;
/** Before the kernel lies our boot code with its page tables; the kernel keeps its alignment. */
const CODE_BYTES = ALIGNMENT_BYTES;
/** A boot sector and one sector of set-up that is never run. */
const HEAD_BYTES = 1024;
/** Documentation/arch/x86/boot.rst: 2.12, the first with `xloadflags`. */
const PROTOCOL = 0x020c;

interface Segment {
  readonly offset: number;
  /** Where it lies in memory, from the lowest segment on. */
  readonly at: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

interface KernelLayout {
  readonly segments: readonly Segment[];
  /** Physical address of the lowest segment. */
  readonly base: number;
  /** Of the first instruction, from `base` on. */
  readonly entry: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

function notLoadable(problem: string): Error {
  return unsuitable("the kernel /boot/vmlinux", problem, "build the kernel component again");
}

async function bytesOf(content: ContentSource, at: number, length: number): Promise<Buffer> {
  if (at + length > content.sizeBytes) throw notLoadable("ends too early");
  const bytes = Buffer.alloc(length);
  await content.read(bytes, at);
  return bytes;
}

function segmentsOf(table: Buffer, count: number, entryBytes: number) {
  const found: { offset: number; address: number; fileBytes: number; memoryBytes: number }[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = index * entryBytes;
    if (table.readUInt32LE(at) !== LOAD) continue;
    const word = (offset: number): number => Number(table.readBigUInt64LE(at + offset));
    found.push({ offset: word(8), address: word(24), fileBytes: word(32), memoryBytes: word(40) });
  }
  return found.toSorted((a, b) => a.address - b.address);
}

/** ELF-64, program headers. */
async function layoutOf(kernel: ContentSource): Promise<KernelLayout> {
  const head = await bytesOf(kernel, 0, 64);
  if (head.readUInt32BE(0) !== ELF_MAGIC || head[4] !== 2 || head.readUInt16LE(18) !== X86_64) {
    throw notLoadable("is no ELF file of amd64");
  }
  const [count, entryBytes] = [head.readUInt16LE(56), head.readUInt16LE(54)];
  if (count === 0 || count > SEGMENTS_MAX || entryBytes < 56 || entryBytes > 256) {
    throw notLoadable("has absurd program headers");
  }
  const table = await bytesOf(kernel, Number(head.readBigUInt64LE(32)), count * entryBytes);
  const found = segmentsOf(table, count, entryBytes);
  const base = found[0]?.address ?? 0;
  const segments = found.map(({ address, ...item }) => ({ ...item, at: address - base }));
  const end = (of: (segment: Segment) => number): number =>
    segments.reduce((most, segment) => Math.max(most, segment.at + of(segment)), 0);
  const [fileBytes, memoryBytes] = [end((s) => s.fileBytes), end((s) => s.memoryBytes)];
  const entry = Number(head.readBigUInt64LE(24)) - base;
  const sound =
    segments.every(({ offset, fileBytes: length }) => offset + length <= kernel.sizeBytes) &&
    base % ALIGNMENT_BYTES === 0 &&
    entry >= 0 &&
    entry < fileBytes &&
    fileBytes <= memoryBytes &&
    memoryBytes <= KERNEL_BYTES_MAX;
  if (!sound) throw notLoadable("has segments that do not fit together");
  return { segments, base, entry, fileBytes, memoryBytes };
}

/** The head of a bzImage, as far as a boot loader of 32 bits reads it. */
function headOf({ base, fileBytes, memoryBytes }: KernelLayout): Buffer {
  const bytes = Buffer.alloc(HEAD_BYTES);
  bytes.writeUInt8(HEAD_BYTES / 512 - 1, 0x1f1);
  bytes.writeUInt32LE(Math.ceil((CODE_BYTES + fileBytes) / 16), 0x1f4);
  bytes.writeUInt16LE(0xaa55, 0x1fe);
  bytes.set([0xeb, 0x66], 0x200); // a jump over this header, which says how long it is
  bytes.write("HdrS", 0x202, "latin1");
  bytes.writeUInt16LE(PROTOCOL, 0x206);
  bytes.writeUInt8(1, 0x211); // to be loaded high
  bytes.writeUInt32LE(0x10_0000, 0x214);
  bytes.writeUInt32LE(0x7fff_ffff, 0x22c);
  bytes.writeUInt32LE(ALIGNMENT_BYTES, 0x230);
  bytes.writeUInt8(1, 0x234); // works at every multiple of the alignment
  bytes.writeUInt8(Math.log2(ALIGNMENT_BYTES), 0x235);
  bytes.writeUInt32LE(2047, 0x238);
  bytes.writeBigUInt64LE(BigInt(Math.max(base - CODE_BYTES, ALIGNMENT_BYTES)), 0x258);
  bytes.writeUInt32LE(Math.ceil((CODE_BYTES + memoryBytes) / 4096) * 4096, 0x260);
  bytes.set([0xf4, 0xeb, 0xfd], 0x268); // hlt, for ever
  return bytes;
}

interface Part {
  readonly start: number;
  readonly end: number;
  read(target: Uint8Array, position: number): Promise<void>;
}

function bufferPart(start: number, bytes: Buffer): Part {
  return {
    start,
    end: start + bytes.length,
    async read(target, at) {
      target.set(bytes.subarray(at, at + target.length));
    },
  };
}

/** Parts in the order of their places; what is between them is zero. */
async function readParts(parts: readonly Part[], target: Uint8Array, from: number): Promise<void> {
  target.fill(0);
  const end = from + target.length;
  for (const part of parts) {
    const [start, stop] = [Math.max(from, part.start), Math.min(end, part.end)];
    if (start < stop) {
      await part.read(target.subarray(start - from, stop - from), start - part.start);
    }
  }
}

/**
 * The kernel as a bzImage of our own: a header, the boot code, and the kernel as it lies in memory.
 * Nothing is compressed, so nothing has to be unpacked when it starts. Boot loaders that enter in real
 * mode or by the EFI stub cannot start it; GRUB's `linux` does.
 *
 * @throws `export.machine-unsuitable` (misuse)
 */
export async function kernelImage(kernel: ContentSource): Promise<ContentSource> {
  const layout = await layoutOf(kernel);
  const start = HEAD_BYTES + CODE_BYTES;
  const parts = [
    bufferPart(0, headOf(layout)),
    bufferPart(HEAD_BYTES, bootCode(CODE_BYTES + layout.entry)),
    ...layout.segments.map(({ offset, at, fileBytes }): Part => ({
      start: start + at,
      end: start + at + fileBytes,
      read: (target, position) => kernel.read(target, offset + position),
    })),
  ];
  return {
    sizeBytes: start + layout.fileBytes,
    read: (target, position) => readParts(parts, target, position),
  };
}
