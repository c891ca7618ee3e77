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
