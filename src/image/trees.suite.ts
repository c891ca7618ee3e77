/** Trees for the tests of this room: random ones, and a directory on disk read as one. */
import { execFileSync } from "node:child_process";
import { lstatSync, readFileSync, readdirSync, readlinkSync, type Stats } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { bufferSource, canonicalTree, type Tree, type TreeEntry } from "./index.ts";

const NAMES = ["a", "a-", "a.b", ".a", "-", "..x", "b", "B", "lib", "ü", "\u{ffee}", "\u{1f600}"];
const SIZES = [0, 1, 100, 3000, 4032, 4033, 4095, 4096, 4097, 8192, 9000];

const XATTRS: readonly (readonly [string, Buffer])[] = [
  ["user.note", Buffer.from("text")],
  ["user.empty", Buffer.alloc(0)],
  ["user.long", Buffer.alloc(5000, "x")],
  ["security.capability", Buffer.from("0100000200040000000000000000000000000000", "hex")],
  ["trusted.made", Buffer.from([0, 255, 10])],
];

interface Spec {
  readonly segments: readonly string[];
  readonly kind: TreeEntry["type"] | "link";
  readonly number: number;
  readonly size: number;
  readonly mode: number;
  readonly mtime_s: number;
  readonly xattrs: readonly (readonly [string, Buffer])[];
}

function specArbitrary(xattrs: boolean): fc.Arbitrary<Spec> {
  return fc.record({
    segments: fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 4 }),
    kind: fc.oneof(
      { weight: 4, arbitrary: fc.constant<Spec["kind"]>("file") },
      { weight: 3, arbitrary: fc.constant<Spec["kind"]>("directory") },
      {
        weight: 4,
        arbitrary: fc.constantFrom<Spec["kind"][]>(
          "symlink",
          "character",
          "block",
          "fifo",
          "socket",
          "link",
        ),
      },
    ),
    number: fc.integer({ min: 1, max: 70_000 }),
    size: fc.constantFrom(...SIZES),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    mtime_s: fc.integer({ min: 0, max: 2 ** 33 }),
    xattrs: xattrs ? fc.subarray([...XATTRS], { maxLength: 3 }) : fc.constant([]),
  });
}

/** Bytes that differ between numbers and are not all equal. */
export function patternBytes(size: number, number: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1) bytes[at] = (at * 7 + number * 13 + (at >> 8)) & 0xff;
  return bytes;
}

function entryOf(spec: Spec, path: string): TreeEntry {
  const { kind, number, size, mode, mtime_s } = spec;
  const xattrs = new Map(spec.xattrs);
  const common = { path, mode, uid: number, gid: number * 3, mtime_s, xattrs };
  if (kind === "symlink") return { ...common, type: kind, target: `../x${"y".repeat(size)}` };
  if (kind === "character" || kind === "block") {
    return { ...common, type: kind, major: number % 4096, minor: number };
  }
  if (kind === "file" || kind === "link") {
    return { ...common, type: "file", content: bufferSource(patternBytes(size, number)) };
  }
  return { ...common, type: kind };
}

function fits(byPath: ReadonlyMap<string, TreeEntry>, path: string): boolean {
  if (byPath.has(path)) return false;
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) {
    const parent = byPath.get(path.slice(0, at));
    if (parent !== undefined && parent.type !== "directory") return false;
  }
  return ![...byPath.keys()].some((other) => other.startsWith(`${path}/`));
}

function build(specs: readonly Spec[]): TreeEntry[] {
  const byPath = new Map<string, TreeEntry>();
  for (const spec of specs) {
    const path = spec.segments.join("/");
    if (!fits(byPath, path)) continue;
    const files = [...byPath.values()].filter((entry) => entry.type === "file");
    const first = files[spec.number % Math.max(files.length, 1)];
    if (spec.kind === "link" && first !== undefined) {
      const linkGroup = first.linkGroup ?? `group of ${first.path}`;
      byPath.set(first.path, { ...first, linkGroup });
      byPath.set(path, { ...first, path, linkGroup });
    } else byPath.set(path, entryOf(spec, path));
  }
  return [...byPath.values()];
}

/** Entries that `canonicalTree` accepts, in any order, with every type and hard links. */
export function entriesArbitrary(
  options: { readonly xattrs: boolean } = { xattrs: true },
): fc.Arbitrary<TreeEntry[]> {
  return fc.array(specArbitrary(options.xattrs), { maxLength: 24 }).map((specs) =>
    build(
      specs.map((spec) => {
        /* Linux has no symbolic links of more than 4095 bytes. */
        return spec.kind === "symlink" ? { ...spec, size: Math.min(spec.size, 4000) } : spec;
      }),
    ),
  );
}

/** All xattrs below a directory, by path. */
function xattrsBelow(folder: string): Map<string, Map<string, Buffer>> {
  const args = ["-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", folder];
  const output = execFileSync("getfattr", args, { encoding: "utf8", maxBuffer: 1 << 26 });
  const found = new Map<string, Map<string, Buffer>>();
  for (const part of output.split("\n\n").filter((text) => text !== "")) {
    const [head = "", ...lines] = part.split("\n").filter((line) => line !== "");
    const bytes = head
      .slice("# file: ".length)
      .replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
        String.fromCharCode(Number.parseInt(digits, 8)),
      );
    const path = head.includes("\\") ? Buffer.from(bytes, "latin1").toString("utf8") : bytes;
    const pairs = lines.map((line): [string, Buffer] => {
      const [name = "", value = ""] = line.split("=", 2);
      return [name, Buffer.from(value.slice(2), "hex")];
    });
    found.set(path, new Map(pairs));
  }
  return found;
}

function entryOnDisk(folder: string, path: string, stats: Stats, xattrs: Map<string, Buffer>) {
  const file = join(folder, path);
  const common = {
    path,
    mode: stats.mode & 0o7777,
    uid: stats.uid,
    gid: stats.gid,
    mtime_s: Math.floor(stats.mtimeMs / 1000),
    xattrs,
  };
  const device = { major: (stats.rdev >> 8) & 0xfff, minor: minorOf(stats.rdev) };
  if (stats.isDirectory()) return { ...common, type: "directory" } as const;
  if (stats.isSymbolicLink()) {
    return { ...common, type: "symlink", target: readlinkSync(file) } as const;
  }
  if (stats.isCharacterDevice()) return { ...common, type: "character", ...device } as const;
  if (stats.isBlockDevice()) return { ...common, type: "block", ...device } as const;
  if (stats.isFIFO()) return { ...common, type: "fifo" } as const;
  if (stats.isSocket()) return { ...common, type: "socket" } as const;
  const content = bufferSource(readFileSync(file));
  const linkGroup = stats.nlink > 1 ? { linkGroup: String(stats.ino) } : {};
  return { ...common, type: "file", content, ...linkGroup } as const;
}

/** glibc's encoding, which differs from the kernel's for large numbers. */
function minorOf(device: number): number {
  return (device & 0xff) | (Math.floor(device / 0x1000) & 0xf_ff00);
}

/** `readdir` of its own follows links to directories when it descends. */
function pathsBelow(folder: string, path: string): string[] {
  return readdirSync(join(folder, path), { withFileTypes: true }).flatMap((entry) => {
    const below = path === "" ? entry.name : `${path}/${entry.name}`;
    return entry.isDirectory() ? [below, ...pathsBelow(folder, below)] : [below];
  });
}

/** What a directory of this machine holds, with `getfattr` for the xattrs. */
export function treeOnDisk(folder: string, options: { readonly xattrs: boolean }): Tree {
  const xattrs = options.xattrs ? xattrsBelow(folder) : new Map<string, Map<string, Buffer>>();
  const paths = ["", ...pathsBelow(folder, "")];
  const entries = paths.map((path) => {
    const file = path === "" ? folder : join(folder, path);
    return entryOnDisk(folder, path, lstatSync(file), xattrs.get(file) ?? new Map());
  });
  return canonicalTree(entries);
}
