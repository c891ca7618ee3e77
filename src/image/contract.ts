import type { Digest } from "#core";

/** Bytes of a known length that can be read at any position, as often as wanted. */
export interface ContentSource {
  readonly sizeBytes: number;
  /** Fills `target` from `position`; the caller stays within `sizeBytes`. */
  read(target: Uint8Array, position: number): Promise<void>;
}

interface EntryCommon {
  /** Relative to the root, `/`-separated, no leading slash, no `.` or `..`; `""` is the root. */
  readonly path: string;
  /** Permission bits with setuid, setgid and sticky: 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds since the Unix epoch; components have no finer times. */
  readonly mtime_s: number;
  /** Full names such as `security.capability`; sorted by name in a canonical tree. */
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export type TreeEntry = EntryCommon &
  (
    | { readonly type: "directory" }
    | {
        readonly type: "file";
        readonly content: ContentSource;
        /** Entries with the same group are hard links of one inode. */
        readonly linkGroup?: string;
      }
    | { readonly type: "symlink"; readonly target: string }
    | {
        readonly type: "character" | "block";
        readonly major: number;
        readonly minor: number;
      }
    | { readonly type: "fifo" | "socket" }
  );

/**
 * A file tree in canonical form: validated, every parent present, sorted by the bytes of the
 * path, the root first. Made only by `canonicalTree`. A whiteout is a character device 0/0 and an
 * opaque directory has the xattr `trusted.overlay.opaque` = `y`, as overlayfs has them.
 */
export interface Tree {
  readonly entries: readonly TreeEntry[];
  /** Looks an entry up by its path. */
  get(path: string): TreeEntry | undefined;
}

/** Where an image goes: sequential writes. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<void>;
}

export interface WrittenImage {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Superblock UUID: the first 16 bytes of the tree's digest. */
  readonly uuid: string;
}

/** A run of a content's bytes in an image. */
export interface ContentExtent {
  /** In the content. */
  readonly offset: number;
  /** Above 0. */
  readonly length: number;
  /** In the image. */
  readonly position: number;
}

/** Bytes that occur in an image: a file's, or a chunk's of an image that is no tree of ours. */
export interface RecipeContent {
  /** Above 0: empty files have no content. */
  readonly sizeBytes: number;
  /**
   * The first 8 bytes of the content's sha256 as 16 hexadecimal digits. Enough to find it, too
   * little to name it: who relies on it compares the digest of the whole image in the end.
   */
  readonly head: string;
  /** The first path that has it; empty for a chunk. */
  readonly path: string;
}

/**
 * What an image is made of: its contents, and everything else. A `tree` describes an image that
 * our writer makes from a file tree, `chunks` any other sequence of bytes. Equal images have equal
 * recipes. Specified in doc/recipe.md.
 */
export interface Recipe {
  readonly kind: "tree" | "chunks";
  /** Of the image. */
  readonly sizeBytes: number;
  /** Each once (by size and sha256), in the order of first use. */
  readonly contents: readonly RecipeContent[];
  /** Every place of a content in the image; each is a list of extents that cover it in order. */
  places(index: number): readonly (readonly ContentExtent[])[];
  /**
   * Every byte of the image that belongs to no content and is not zero, by ascending position.
   *
   * @param digests sha256 of each content, 32 bytes, by index
   */
  metadata(
    digests: readonly Uint8Array[],
  ): readonly { readonly position: number; readonly bytes: Uint8Array }[];
}
