import { canonicalTree, type ContentSource, type TreeEntry } from "#image";
import { damaged, tooLarge, unsupported } from "../errors.ts";
import type { FineTree } from "../tree.ts";
import { entriesIn, type DirectoryEntry } from "./directory.ts";
import type { Ext4 } from "./file-system.ts";
import { FLAG, type Inode } from "./inode.ts";
import { INLINE_DATA } from "./xattr.ts";

const ROOT_INODE = 2;
const ENTRIES_MAX = 2_000_000;
const PATH_BYTES_MAX = 4095;
/** A file of a few bytes may claim any length as a hole; every byte of it would be hashed. */
const LOGICAL_BYTES_MAX = 2 ** 38;
const LINK_BYTES_MAX = 4095;
const FAST_LINK_BYTES_MAX = 60;

const TYPES: ReadonlyMap<number, TreeEntry["type"]> = new Map([
  [0x1000, "fifo"],
  [0x2000, "character"],
  [0x4000, "directory"],
  [0x6000, "block"],
  [0x8000, "file"],
  [0xa000, "symlink"],
  [0xc000, "socket"],
]);

type WithoutPath<T> = T extends unknown ? Omit<T, "path"> : never;
type Described = WithoutPath<TreeEntry>;

interface Node {
  readonly inode: Inode;
  readonly described: Described;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

class Walk {
  readonly entries: TreeEntry[] = [];
  readonly fractions = new Map<string, number>();
  readonly #fs: Ext4;
  /** Files that have several names, by inode. */
  readonly #linked = new Map<number, Node>();
  readonly #directories = new Set<number>();
  #logicalBytes = 0;

  constructor(fs: Ext4) {
    this.#fs = fs;
  }

  fail(problem: string): Error {
    return damaged(this.#fs.superblock.name, problem);
  }

  async run(): Promise<FineTree> {
    const root = await this.#node(ROOT_INODE);
    if (root.described.type !== "directory") throw this.fail("its root is no directory");
    const pending = [{ path: "", node: root }];
    for (let item = pending.pop(); item !== undefined; item = pending.pop()) {
      this.#add(item.path, item.node);
      if (item.node.described.type !== "directory") continue;
      for (const child of await this.#children(item.path, item.node.inode)) pending.push(child);
    }
    return { tree: canonicalTree(this.entries), fractions: this.fractions };
  }

  #add(path: string, { inode, described }: Node): void {
    this.entries.push({ ...described, path });
    if (inode.mtime_ns !== 0) this.fractions.set(path, inode.mtime_ns);
    if (this.entries.length <= ENTRIES_MAX) return;
    throw tooLarge(this.#fs.superblock.name, `it has more than ${ENTRIES_MAX} entries`);
  }

  async #children(path: string, directory: Inode): Promise<{ path: string; node: Node }[]> {
    const { number } = directory;
    if (this.#directories.has(number)) throw this.fail(`directory ${number} is in two places`);
    this.#directories.add(number);
    const children: { path: string; node: Node }[] = [];
    const names = new Set<string>();
    for await (const { inode, name } of this.#entriesOf(directory)) {
      const text = this.#nameOf(path, name);
      if (text === "." || text === "..") continue;
      if (names.has(text)) throw this.fail(`/${path} has "${text}" twice`);
      names.add(text);
      const below = path === "" ? text : `${path}/${text}`;
      if (Buffer.byteLength(below) > PATH_BYTES_MAX) throw this.fail("a path is too long");
      children.push({ path: below, node: await this.#node(inode) });
    }
    return children;
  }

  #nameOf(path: string, name: Buffer): string {
    if (name.includes(0) || name.includes(0x2f))
      throw this.fail(`/${path} has a name that cannot be`);
    try {
      return decoder.decode(name);
    } catch {
      const shown = name.toString("latin1").replaceAll(/[^ -~]/g, "?");
      const feature = `the name ${shown} in /${path}, which is no UTF-8,`;
      throw unsupported(
        this.#fs.superblock.name,
        feature,
        "rename it in the machine, and import again",
      );
    }
  }

  async *#entriesOf(directory: Inode): AsyncGenerator<DirectoryEntry> {
    const s = this.#fs.superblock;
    if ((directory.flags & FLAG.ENCRYPTED) !== 0) {
      throw unsupported(s.name, "an encrypted directory", "decrypt its files first");
    }
    if ((directory.flags & FLAG.INLINE) !== 0) {
      const rest = (await this.#fs.xattrs(directory)).get(INLINE_DATA) ?? new Uint8Array();
      yield* entriesIn(s, directory.number, directory.block.subarray(4));
      yield* entriesIn(s, directory.number, Buffer.from(rest));
      return;
    }
    const blocksMax = Math.ceil(directory.sizeBytes / s.blockBytes);
    for (const { first, blocks, start } of await this.#fs.runs(directory)) {
      const count = Math.min(blocks, blocksMax - first);
      for (let index = 0; index < count; index += 1) {
        yield* entriesIn(s, directory.number, await this.#fs.block(start + index));
      }
    }
  }

  async #node(number: number): Promise<Node> {
    const known = this.#linked.get(number);
    if (known !== undefined) return known;
    const inode = await this.#fs.inode(number);
    const node = { inode, described: await this.#describe(inode) };
    if (node.described.type === "file" && inode.links > 1) this.#linked.set(number, node);
    return node;
  }

  async #describe(inode: Inode): Promise<Described> {
    const type = TYPES.get(inode.mode & 0xf000);
    if (type === undefined) throw this.fail(`inode ${inode.number} is of no kind`);
    const all = await this.#fs.xattrs(inode);
    const xattrs = new Map([...all].filter(([name]) => name !== INLINE_DATA));
    const { uid, gid, mtime_s } = inode;
    const common = { mode: inode.mode & 0o7777, uid, gid, mtime_s, xattrs };
    if (type === "file") return this.#file(inode, common, all);
    if (type === "symlink") return { ...common, type, target: await this.#target(inode, all) };
    if (type === "character" || type === "block") return { ...common, type, ...deviceOf(inode) };
    return { ...common, type };
  }

  #file(
    inode: Inode,
    common: Omit<Extract<Described, { type: "fifo" | "socket" }>, "type">,
    xattrs: ReadonlyMap<string, Uint8Array>,
  ): Described {
    const { name, blocks, blockBytes } = this.#fs.superblock;
    this.#logicalBytes += inode.sizeBytes;
    if (this.#logicalBytes > Math.max(LOGICAL_BYTES_MAX, 4 * blocks * blockBytes)) {
      throw tooLarge(name, `its files claim more than ${LOGICAL_BYTES_MAX} bytes`);
    }
    const content: ContentSource = this.#fs.content(inode, xattrs);
    const group = inode.links > 1 ? { linkGroup: `inode ${inode.number}` } : {};
    return { ...common, type: "file", content, ...group };
  }

  async #target(inode: Inode, xattrs: ReadonlyMap<string, Uint8Array>): Promise<string> {
    const { sizeBytes, number } = inode;
    if (sizeBytes === 0 || sizeBytes > LINK_BYTES_MAX)
      throw this.fail(`link ${number} has a wrong length`);
    const inside =
      sizeBytes < FAST_LINK_BYTES_MAX && (inode.flags & (FLAG.EXTENTS | FLAG.INLINE)) === 0;
    const bytes = Buffer.from(inode.block.subarray(0, inside ? sizeBytes : 0));
    const target = inside ? bytes : Buffer.alloc(sizeBytes);
    if (!inside) await this.#fs.content(inode, xattrs).read(target, 0);
    try {
      return decoder.decode(target);
    } catch (cause) {
      throw damaged(this.#fs.superblock.name, `the target of link ${number} is no text`, cause);
    }
  }
}

/** Linux's two forms of a device number: 8 and 8 bits, or 12 and 20. */
function deviceOf({ block }: Inode): { major: number; minor: number } {
  const old = block.readUInt32LE(0);
  if (old !== 0) return { major: (old >> 8) & 0xff, minor: old & 0xff };
  const number = block.readUInt32LE(4);
  return { major: (number >> 8) & 0xfff, minor: (number & 0xff) | ((number >>> 12) & 0xfff00) };
}

/**
 * Everything in a file system. Contents are read when they are asked for, as long as the disk is
 * open. Of links of other things than files each is an entry of its own.
 *
 * @throws `import.image-damaged` (corrupt), `import.unsupported`, `import.too-large` (misuse)
 */
export async function readExt4(fs: Ext4): Promise<FineTree> {
  return await new Walk(fs).run();
}
