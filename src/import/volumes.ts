/** The file systems of a disk, joined as the machine mounts them. */
import { readAll, canonicalTree, type Tree, type TreeEntry } from "#image";
import { TesseraError } from "#core";
import { openExt4 } from "./ext4/file-system.ts";
import { readExt4 } from "./ext4/read.ts";
import { isExt4 } from "./ext4/superblock.ts";
import { unsupported } from "./errors.ts";
import { entryAt, placeIn } from "./paths.ts";
import { readPartitions } from "./partitions.ts";
import { bytesAt, partOf, type DiskBytes } from "./source.ts";
import type { FineTree } from "./tree.ts";

export interface Volume {
  /** Of the partition; 0 where the disk has none. */
  readonly number: number;
  readonly sizeBytes: number;
  /** `ext4`, or what else was recognised; `unknown`. */
  readonly kind: string;
  /** Where it is in the machine; absent where its files were not taken. */
  readonly mountedAt?: string;
}

export interface Volumes {
  readonly scheme: "mbr" | "gpt" | "none";
  readonly volumes: readonly Volume[];
  readonly fine: FineTree;
  /** Lines of fstab(5) for which there is no disk any more. */
  readonly left: readonly string[];
}

interface Candidate {
  readonly number: number;
  readonly partitionUuid: string;
  readonly disk: DiskBytes;
  readonly kind: string;
  readonly uuid: string;
  readonly label: string;
  readonly fine?: FineTree;
}

const FSTAB_BYTES_MAX = 2 ** 20;
/** Magic numbers of what is not read here, for a message that names it. */
const KINDS: readonly (readonly [kind: string, offset: number, magic: string])[] = [
  ["xfs", 0, "XFSB"],
  ["btrfs", 65_600, "_BHRfS_M"],
  ["LVM", 536, "LVM2 001"],
  ["encrypted (LUKS)", 0, "LUKS"],
  ["swap", 4086, "SWAPSPACE2"],
  ["vfat", 82, "FAT32"],
  ["vfat", 54, "FAT"],
  ["ntfs", 3, "NTFS"],
  ["squashfs", 0, "hsqs"],
];

async function kindOf(disk: DiskBytes): Promise<string> {
  if (await isExt4(disk)) return "ext4";
  const bytes = await bytesAt(disk, 0, Math.min(disk.sizeBytes, 66_000));
  const found = KINDS.find(([, offset, magic]) =>
    bytes.subarray(offset, offset + magic.length).equals(Buffer.from(magic, "latin1")),
  );
  return found?.[0] ?? "unknown";
}

async function candidateOf(
  disk: DiskBytes,
  number: number,
  partitionUuid: string,
): Promise<Candidate> {
  const kind = await kindOf(disk);
  const common = { number, partitionUuid, disk, kind };
  if (kind !== "ext4") return { ...common, uuid: "", label: "" };
  const fs = await openExt4(disk, number === 0 ? "the disk" : `partition ${number}`);
  const { uuid, label } = fs.superblock;
  return { ...common, uuid, label, fine: await readExt4(fs) };
}

function isRoot({ fine }: Candidate): boolean {
  if (fine === undefined) return false;
  const has = (path: string): boolean => entryAt(fine.tree, path)?.type === "file";
  return has("/etc/os-release") || has("/etc/fstab") || has("/etc/passwd");
}

function rootOf(candidates: readonly Candidate[], wanted: number | undefined): Candidate {
  const roots = candidates.filter(
    (item) => isRoot(item) && (wanted ?? item.number) === item.number,
  );
  const [root] = roots;
  if (root !== undefined && roots.length === 1) return root;
  if (roots.length > 1) {
    const numbers = roots.map(({ number }) => number).join(", ");
    const message = `several partitions hold a system: ${numbers}`;
    throw new TesseraError("misuse", "import.root-ambiguous", message, {
      remedy: "say which with --partition",
    });
  }
  const kinds = [...new Set(candidates.map(({ kind }) => kind))].filter(
    (kind) => kind !== "unknown",
  );
  const other = kinds.find((kind) => ["xfs", "btrfs", "LVM", "encrypted (LUKS)"].includes(kind));
  if (other !== undefined) {
    throw unsupported(
      "the image",
      `a system on ${other}`,
      "copy it to ext4 in plain partitions first",
    );
  }
  const message = `no partition holds a system on ext4 (found: ${kinds.join(", ") || "nothing known"})`;
  throw new TesseraError("misuse", "import.root-not-found", message, {
    remedy: "see which file systems doc/import.md names, and that --format is right",
  });
}

interface FstabLine {
  readonly text: string;
  readonly device: string;
  readonly mountPoint: string;
  readonly type: string;
}

/** Octal escapes stand for spaces. */
const plain = (field: string): string =>
  field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCodePoint(Number.parseInt(digits, 8)),
  );

/** fstab(5). */
async function readFstab(tree: Tree): Promise<FstabLine[]> {
  const entry = entryAt(tree, "/etc/fstab");
  if (entry?.type !== "file") return [];
  const bytes = await readAll(entry.content, FSTAB_BYTES_MAX);
  return Buffer.from(bytes)
    .toString("utf8")
    .split("\n")
    .flatMap((line) => {
      const [device, mountPoint, type] = line.trim().split(/\s+/);
      if (device === undefined || device === "" || device.startsWith("#")) return [];
      if (mountPoint === undefined || type === undefined) return [];
      return [{ text: line.trim(), device: plain(device), mountPoint: plain(mountPoint), type }];
    });
}

const unquoted = (text: string): string => text.replaceAll('"', "");

function deviceOf(candidates: readonly Candidate[], device: string): Candidate | undefined {
  const [tag = "", value = ""] = device.split("=", 2);
  const wanted = unquoted(value).toLowerCase();
  if (tag === "UUID") return candidates.find(({ uuid }) => uuid !== "" && uuid === wanted);
  if (tag === "LABEL")
    return candidates.find(({ label }) => label !== "" && label === unquoted(value));
  if (tag === "PARTUUID") return candidates.find(({ partitionUuid }) => partitionUuid === wanted);
  const number = /^\/dev\/(?:(?:[svx]|xv|h)d[a-z]|nvme\d+n\d+p|mmcblk\d+p)(\d+)$/.exec(device)?.[1];
  return candidates.find((candidate) => candidate.number === Number(number ?? -1));
}

const isDisk = ({ device }: FstabLine): boolean =>
  device.includes("=") || device.startsWith("/dev/");

/** The tree with another in the place of a directory. */
function grafted(base: FineTree, at: string, other: FineTree, name: string): FineTree {
  const isBelow = (path: string): boolean => path === at || path.startsWith(`${at}/`);
  const moved = other.tree.entries.map((entry): TreeEntry => {
    const path = entry.path === "" ? at : `${at}/${entry.path}`;
    const linked = entry.type === "file" && entry.linkGroup !== undefined;
    return linked
      ? { ...entry, path, linkGroup: `${name} ${entry.linkGroup}` }
      : { ...entry, path };
  });
  const fractions = new Map([...base.fractions].filter(([path]) => !isBelow(path)));
  for (const [path, ns] of other.fractions) fractions.set(path === "" ? at : `${at}/${path}`, ns);
  const kept = base.tree.entries.filter(({ path }) => !isBelow(path));
  return { tree: canonicalTree([...kept, ...moved]), fractions };
}

/**
 * Reads the partitions of a disk, finds the root, and joins what fstab(5) mounts into it.
 *
 * @param partition which one holds the root, where there are several
 * @throws `import.root-not-found`, `import.root-ambiguous`, `import.unsupported` (misuse),
 *   `import.image-damaged` (corrupt)
 */
export async function readVolumes(disk: DiskBytes, partition?: number): Promise<Volumes> {
  const { scheme, partitions } = await readPartitions(disk);
  const candidates: Candidate[] = [];
  if (partitions.length === 0) candidates.push(await candidateOf(disk, 0, ""));
  for (const { number, offset, sizeBytes, uuid } of partitions) {
    candidates.push(await candidateOf(partOf(disk, offset, sizeBytes), number, uuid));
  }
  const root = rootOf(candidates, partition);
  let fine = root.fine ?? { tree: canonicalTree([]), fractions: new Map<string, number>() };
  const mounted = new Map<Candidate, string>([[root, "/"]]);
  const left: string[] = [];
  const all = (await readFstab(fine.tree)).filter(({ mountPoint }) => mountPoint !== "/");
  const lines = all.filter(isDisk);
  for (const line of lines.toSorted((a, b) => a.mountPoint.length - b.mountPoint.length)) {
    const found = deviceOf(candidates, line.device);
    const place = placeIn(fine.tree, line.mountPoint);
    const takes =
      found?.fine !== undefined && !mounted.has(found) && place !== undefined && place !== "";
    if (takes && found?.fine && fine.tree.get(place)?.type === "directory") {
      fine = grafted(fine, place, found.fine, `partition ${found.number}`);
      mounted.set(found, line.mountPoint);
    } else left.push(line.text);
  }
  /* Without fstab nothing of it is mounted. */
  if (left.length > 0) left.push(...all.filter((line) => !isDisk(line)).map(({ text }) => text));
  const volumes = candidates.map((item): Volume => {
    const mountedAt = mounted.get(item);
    const sizeBytes = item.disk.sizeBytes;
    return { number: item.number, sizeBytes, kind: item.kind, ...(mountedAt && { mountedAt }) };
  });
  return { scheme, volumes, fine, left };
}
