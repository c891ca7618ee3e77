/**
 * The part of an ELF file that the dynamic linker looks at: names and versions (System V ABI,
 * chapter 5; LSB 5.0 core, 10.7 "Symbol Versioning"). The file may be hostile: every offset and
 * count is checked before it is used, and a file that breaks a rule reads as undefined.
 */

export interface ElfVersions {
  readonly library: string;
  readonly versions: readonly string[];
}

export interface Elf {
  /** ELF machine number: 62 is x86-64, 183 is AArch64. */
  readonly machine: number;
  readonly dynamic: boolean;
  readonly soname?: string;
  readonly needed: readonly string[];
  /** Symbol versions that the file defines, without that of the file itself. */
  readonly defined: readonly string[];
  readonly required: readonly ElfVersions[];
}

/** Reads bytes of the file; the caller stays within the file. */
export type ReadAt = (position: number, length: number) => Promise<Uint8Array>;

const HEADERS_MAX = 4096;
const DYNAMIC_BYTES_MAX = 256 * 1024;
const STRINGS_BYTES_MAX = 64 * 2 ** 20;
const VERSIONS_MAX = 20_000;
const NAME_BYTES_MAX = 1024;

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const TAG = {
  needed: 1n,
  strtab: 5n,
  strsz: 10n,
  soname: 14n,
  verdef: 0x6ffffffcn,
  verdefnum: 0x6ffffffdn,
  verneed: 0x6ffffffen,
  verneednum: 0x6fffffffn,
} as const;

class Malformed extends Error {}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: bigint;
  readonly sizeBytes: number;
}

/** A 64-bit little-endian file with checked access. */
class Reader {
  readonly #read: ReadAt;
  readonly #sizeBytes: number;

  constructor(read: ReadAt, sizeBytes: number) {
    this.#read = read;
    this.#sizeBytes = sizeBytes;
  }

  async view(position: number, length: number): Promise<DataView> {
    if (!Number.isSafeInteger(position) || position < 0 || length < 0) throw new Malformed();
    if (position + length > this.#sizeBytes) throw new Malformed();
    const bytes = await this.#read(position, length);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

function toOffset(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Malformed();
  return Number(value);
}

async function readSegments(reader: Reader, header: DataView): Promise<Segment[]> {
  const entryBytes = header.getUint16(54, true);
  const count = header.getUint16(56, true);
  if (count === 0) return [];
  if (entryBytes !== 56 || count > HEADERS_MAX) throw new Malformed();
  const table = await reader.view(toOffset(header.getBigUint64(32, true)), count * entryBytes);
  return Array.from({ length: count }, (_, index) => {
    const at = index * entryBytes;
    return {
      type: table.getUint32(at, true),
      offset: toOffset(table.getBigUint64(at + 8, true)),
      address: table.getBigUint64(at + 16, true),
      sizeBytes: toOffset(table.getBigUint64(at + 32, true)),
    };
  });
}

async function readDynamic(
  reader: Reader,
  segment: Segment,
): Promise<(readonly [bigint, bigint])[]> {
  if (segment.sizeBytes > DYNAMIC_BYTES_MAX) throw new Malformed();
  const table = await reader.view(segment.offset, segment.sizeBytes);
  const entries: (readonly [bigint, bigint])[] = [];
  for (let at = 0; at + 16 <= table.byteLength; at += 16) {
    const tag = table.getBigUint64(at, true);
    if (tag === 0n) break;
    entries.push([tag, table.getBigUint64(at + 8, true)]);
  }
  return entries;
}

/** File offset of a virtual address. */
function locate(segments: readonly Segment[], address: bigint): number {
  for (const segment of segments) {
    const distance = address - segment.address;
    if (segment.type === PT_LOAD && distance >= 0n && distance < BigInt(segment.sizeBytes)) {
      return segment.offset + Number(distance);
    }
  }
  throw new Malformed();
}

class DynamicSection {
  readonly #entries: readonly (readonly [bigint, bigint])[];
  readonly #reader: Reader;
  readonly #segments: readonly Segment[];
  #strings: DataView | undefined;

  constructor(
    reader: Reader,
    segments: readonly Segment[],
    entries: readonly (readonly [bigint, bigint])[],
  ) {
    this.#reader = reader;
    this.#segments = segments;
    this.#entries = entries;
  }

  values(tag: bigint): bigint[] {
    return this.#entries.filter(([key]) => key === tag).map(([, value]) => value);
  }

  async string(offset: bigint): Promise<string> {
    const strings = (this.#strings ??= await this.#loadStrings());
    const start = toOffset(offset);
    let end = start;
    while (end < strings.byteLength && strings.getUint8(end) !== 0) end += 1;
    if (end >= strings.byteLength || end - start > NAME_BYTES_MAX) throw new Malformed();
    return Buffer.from(strings.buffer, strings.byteOffset + start, end - start).toString("latin1");
  }

  async #loadStrings(): Promise<DataView> {
    const [address] = this.values(TAG.strtab);
    const [size] = this.values(TAG.strsz);
    if (address === undefined || size === undefined) throw new Malformed();
    const sizeBytes = toOffset(size);
    if (sizeBytes > STRINGS_BYTES_MAX) throw new Malformed();
    return this.#reader.view(locate(this.#segments, address), sizeBytes);
  }

  /** Position and number of the records behind an address tag and its count tag. */
  records(address: bigint, count: bigint): { position: number; count: number } | undefined {
    const [at] = this.values(address);
    const [number] = this.values(count);
    if (at === undefined || number === undefined) return undefined;
    if (number > BigInt(VERSIONS_MAX)) throw new Malformed();
    return { position: locate(this.#segments, at), count: Number(number) };
  }

  view(position: number, length: number): Promise<DataView> {
    return this.#reader.view(position, length);
  }
}

/** Version definitions: Elf64_Verdef of 20 bytes, its first Verdaux names it. */
async function readDefined(section: DynamicSection): Promise<string[]> {
  const records = section.records(TAG.verdef, TAG.verdefnum);
  const names: string[] = [];
  let position = records?.position ?? 0;
  for (let index = 0; index < (records?.count ?? 0); index += 1) {
    const record = await section.view(position, 20);
    const isBase = (record.getUint16(2, true) & 1) !== 0;
    const auxiliary = await section.view(position + record.getUint32(12, true), 8);
    if (!isBase) names.push(await section.string(BigInt(auxiliary.getUint32(0, true))));
    const next = record.getUint32(16, true);
    if (next === 0) break;
    position += next;
  }
  return names;
}

/** Version needs: Elf64_Verneed of 16 bytes, followed by its Vernaux records of 16 bytes. */
async function readRequired(section: DynamicSection): Promise<ElfVersions[]> {
  const records = section.records(TAG.verneed, TAG.verneednum);
  const required: ElfVersions[] = [];
  let total = 0;
  let position = records?.position ?? 0;
  for (let index = 0; index < (records?.count ?? 0); index += 1) {
    const record = await section.view(position, 16);
    const library = await section.string(BigInt(record.getUint32(4, true)));
    const first = position + record.getUint32(8, true);
    const versions = await readAuxiliaries(section, first, record.getUint16(2, true));
    total += versions.length;
    if (total > VERSIONS_MAX) throw new Malformed();
    required.push({ library, versions });
    const next = record.getUint32(12, true);
    if (next === 0) break;
    position += next;
  }
  return required;
}

async function readAuxiliaries(section: DynamicSection, first: number, count: number) {
  const versions: string[] = [];
  let position = first;
  for (let index = 0; index < Math.min(count, VERSIONS_MAX); index += 1) {
    const auxiliary = await section.view(position, 16);
    const weak = (auxiliary.getUint16(4, true) & 2) !== 0;
    if (!weak) versions.push(await section.string(BigInt(auxiliary.getUint32(8, true))));
    const next = auxiliary.getUint32(12, true);
    if (next === 0) break;
    position += next;
  }
  return versions;
}

async function parse(reader: Reader): Promise<Elf | undefined> {
  const header = await reader.view(0, 64);
  if (header.getUint32(0) !== 0x7f454c46) return undefined;
  if (header.getUint8(4) !== 2 || header.getUint8(5) !== 1) return undefined;
  const machine = header.getUint16(18, true);
  const segments = await readSegments(reader, header);
  const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
  if (dynamic === undefined) {
    return { machine, dynamic: false, needed: [], defined: [], required: [] };
  }
  const section = new DynamicSection(reader, segments, await readDynamic(reader, dynamic));
  const [soname] = section.values(TAG.soname);
  const needed: string[] = [];
  for (const offset of section.values(TAG.needed)) needed.push(await section.string(offset));
  return {
    machine,
    dynamic: true,
    ...(soname === undefined ? {} : { soname: await section.string(soname) }),
    needed,
    defined: await readDefined(section),
    required: await readRequired(section),
  };
}

/**
 * Reads a 64-bit little-endian ELF file; undefined when it is none or is malformed. Weak version
 * needs are left out: the dynamic linker does not insist on them.
 */
export async function readElf(read: ReadAt, sizeBytes: number): Promise<Elf | undefined> {
  if (sizeBytes < 64) return undefined;
  try {
    return await parse(new Reader(read, sizeBytes));
  } catch (error) {
    if (error instanceof Malformed || error instanceof RangeError) return undefined;
    throw error;
  }
}
