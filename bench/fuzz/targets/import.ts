/** What is read of disk images: partition tables, headers of formats, ext4, its journal. */
import { canonicalTree } from "#image";
import { readArchive } from "../../../src/import/described/archive.ts";
import { archiveOf, domainOf, ovfOf } from "../../../src/import/described/described.suite.ts";
import { readDomain } from "../../../src/import/described/domain.ts";
import { readManifest } from "../../../src/import/described/manifest.ts";
import { readOva } from "../../../src/import/described/ova.ts";
import { readOvf } from "../../../src/import/described/ovf.ts";
import { openExt4 } from "../../../src/import/ext4/file-system.ts";
import { readExt4 } from "../../../src/import/ext4/read.ts";
import { writeExt4 } from "../../../src/import/ext4/write.ts";
import { detectFormat, leaningsOf } from "../../../src/import/format.ts";
import { readPartitions } from "../../../src/import/partitions.ts";
import type { FuzzTarget } from "../target.ts";

const CODES = ["import.image-damaged", "import.unsupported", "import.too-large"];
/** Of a file: what is read of each. */
const CONTENT_BYTES_MAX = 65_536;

function diskOf(bytes: Buffer) {
  return {
    sizeBytes: bytes.length,
    read: async (target: Uint8Array, offset: number) => {
      if (offset < 0 || offset + target.length > bytes.length) throw new Error("beyond the disk");
      target.set(bytes.subarray(offset, offset + target.length));
    },
  };
}

const common = { mode: 0o644, uid: 1, gid: 2, mtime_s: 3 };

const BLOCK_BYTES = 4096;
const SIZE_BYTES = 6 * 2 ** 20;

/** A small file system: most of it is an empty journal. */
async function fileSystem(): Promise<Buffer> {
  const bytes = Buffer.alloc(SIZE_BYTES);
  const disk = {
    sizeBytes: bytes.length,
    write: async (source: Uint8Array, offset: number) => bytes.set(source, offset),
  };
  const content = {
    sizeBytes: 9000,
    read: async (target: Uint8Array) => void target.fill(7),
  };
  const xattrs = new Map([["user.x", Buffer.from("y")]]);
  const tree = canonicalTree([
    { ...common, xattrs, path: "d/file", type: "file", content },
    { ...common, xattrs: new Map(), path: "link", type: "symlink", target: "d/file" },
    { ...common, xattrs: new Map(), path: "null", type: "character", major: 1, minor: 3 },
  ]);
  const uuid = Buffer.alloc(16, 1);
  await writeExt4(disk, { tree, fractions: new Map() }, { uuid, label: "x" });
  /* Without checksums every change is looked at, not only found. */
  bytes.writeUInt32LE(bytes.readUInt32LE(1024 + 100) & ~0x400, 1024 + 100);
  return bytes;
}

const blockOf = (bytes: Buffer, index: number): Buffer =>
  bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES);

/** The blocks that hold something: inputs are these alone, one after the other. */
const whole = await fileSystem();
const held = Array.from({ length: SIZE_BYTES / BLOCK_BYTES }, (_, index) => index).filter((index) =>
  blockOf(whole, index).some((byte) => byte !== 0),
);

function inflated(input: Buffer): Buffer {
  const bytes = Buffer.alloc(SIZE_BYTES);
  for (const [place, index] of held.entries()) {
    bytes.set(blockOf(input, place), index * BLOCK_BYTES);
  }
  return bytes;
}

const ext4: FuzzTarget = {
  name: "ext4",
  codes: [...CODES, "image.path-invalid", "image.entry-invalid", "image.link-invalid"],
  seeds: () => [Buffer.concat(held.map((index) => blockOf(whole, index)))],
  async decode(input) {
    const { tree } = await readExt4(await openExt4(diskOf(inflated(input)), "disk"));
    for (const entry of tree.entries) {
      if (entry.type !== "file") continue;
      const length = Math.min(CONTENT_BYTES_MAX, entry.content.sizeBytes);
      await entry.content.read(new Uint8Array(length), 0);
    }
  },
};

function mbr(): Buffer {
  const disk = Buffer.alloc(512 * 64);
  const put = (sector: number, index: number, type: number, first: number, count: number): void => {
    const at = sector * 512 + 446 + index * 16;
    disk.writeUInt8(type, at + 4);
    disk.writeUInt32LE(first, at + 8);
    disk.writeUInt32LE(count, at + 12);
    disk.writeUInt16LE(0xaa55, sector * 512 + 510);
  };
  put(0, 0, 0x83, 2, 10);
  put(0, 1, 0x05, 20, 40);
  put(20, 0, 0x83, 1, 5);
  put(20, 1, 0x05, 10, 20);
  put(30, 0, 0x83, 2, 6);
  return disk;
}

const partitions: FuzzTarget = {
  name: "partitions",
  codes: CODES,
  seeds: () => [mbr(), Buffer.alloc(4096)],
  decode: async (input) => await readPartitions(diskOf(input)),
};

function qcow2(): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32BE(0x5146_49fb, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeBigUInt64BE(1024n, 8);
  bytes.writeUInt32BE(9, 16);
  bytes.writeUInt32BE(16, 20);
  bytes.writeBigUInt64BE(2n ** 30n, 24);
  bytes.writeUInt32BE(104, 100);
  bytes.writeUInt32BE(0xe279_2aca, 104);
  bytes.writeUInt32BE(3, 108);
  bytes.write("raw", 112);
  bytes.write("base.raw\n", 1024);
  return bytes;
}

const descriptor = `# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\nRW 8192 FLAT "disk.raw" 0\n`;

const formats: FuzzTarget = {
  name: "disk-formats",
  codes: CODES,
  seeds: () => [qcow2(), Buffer.from(descriptor)],
  async decode(input) {
    const format = await detectFormat(diskOf(input), "disk");
    if (format !== "tar") await leaningsOf(diskOf(input), format, "disk");
  },
};

const { signal } = new AbortController();

const ovf: FuzzTarget = {
  name: "ovf",
  codes: CODES,
  seeds: () => [Buffer.from(ovfOf()), Buffer.from(ovfOf({ secondDisk: true }))],
  decode: (input) => readOvf(input.toString("utf8"), "x.ovf"),
};

const domain: FuzzTarget = {
  name: "libvirt-domain",
  codes: CODES,
  seeds: () => [Buffer.from(domainOf())],
  decode: (input) => readDomain(input.toString("utf8"), "x.xml"),
};

const manifest: FuzzTarget = {
  name: "ova-manifest",
  codes: CODES,
  seeds: () => [Buffer.from(`SHA1(a)= ${"0a".repeat(20)}\nSHA256(b c)= ${"0a".repeat(32)}\n`)],
  decode: (input) => readManifest(input.toString("latin1"), "x.mf"),
};

/** Names lead nowhere else, and members lie inside. */
const archive: FuzzTarget = {
  name: "ova-archive",
  codes: CODES,
  seeds: () => [
    archiveOf([
      ["a.ovf", "text"],
      ["dir/b.vmdk", "disk"],
    ]),
  ],
  async decode(input) {
    for (const { name, offset, sizeBytes } of (await readArchive(diskOf(input), "x")).values()) {
      const leads = name.startsWith("/") || name.split("/").includes("..");
      if (leads || offset + sizeBytes > input.length) throw new Error(`a member ${name} leads out`);
    }
  },
};

const ova: FuzzTarget = {
  name: "ova",
  codes: [...CODES, "import.disk-ambiguous", "import.disk-not-found"],
  seeds: () => [
    archiveOf([
      ["old.ovf", ovfOf()],
      ["old-disk1.vmdk", "disk"],
    ]),
  ],
  decode: async (input) => await readOva(diskOf(input), undefined, "x", signal),
};

export const IMPORT_TARGETS: readonly FuzzTarget[] = [
  partitions,
  formats,
  ext4,
  ovf,
  domain,
  manifest,
  archive,
  ova,
];
