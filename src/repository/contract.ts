import type {
  BlobReference,
  Component,
  ComponentDescription,
  ComponentSignature,
  Digest,
  Fragment,
} from "#core";
import type { ByteSink, ContentSource, Recipe } from "#image";

/**
 * The writing of one blob that is not yet held. Bytes are appended in order. `writtenBytes` is
 * what is durably there when the ingest is opened: an ingest that was cut off, by a crash too,
 * continues from it. `commit` checks size and digest over all bytes, then the blob exists; until
 * then no reader can see it. `release` gives the ingest up to a later opener and keeps what is
 * durable; `abort` deletes it. One ingest per digest is open at a time, across processes: a
 * second opener waits until the first commits, releases or dies, and then finds the blob or goes
 * on with it.
 */
export interface Ingest {
  readonly blob: BlobReference;
  readonly writtenBytes: number;
  append(bytes: Uint8Array): Promise<void>;
  /** Makes what was appended durable, as a resume point. */
  checkpoint(): Promise<void>;
  /** @throws `repository.digest-mismatch`, `repository.size-mismatch` (corrupt); the bytes go. */
  commit(): Promise<void>;
  release(): Promise<void>;
  abort(): Promise<void>;
}

export interface BlobReader extends ContentSource {
  close(): Promise<void>;
}

export interface VerifyFinding {
  readonly digest: Digest;
  readonly component?: string;
  readonly problem: "missing" | "size" | "digest" | "manifest";
}

export interface VerifyReport {
  readonly components: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly findings: readonly VerifyFinding[];
}

export interface CollectReport {
  readonly removed: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
  readonly bytes: number;
  readonly dryRun: boolean;
}

/** The recipe of a held component, with the full digest of each content. */
export interface HeldRecipe {
  readonly component: Digest;
  readonly recipe: Recipe;
  /** sha256 of each content, 32 bytes, by index. */
  readonly digests: readonly Uint8Array[];
  /** Similarity sketch of each content by index (see room delta); empty where it is too small. */
  readonly sketches: readonly Uint32Array[];
}

/** A content that some held component has. */
export interface HeldContent {
  readonly component: Digest;
  /** Index in that component's recipe. */
  readonly content: number;
  /** 32 bytes. */
  readonly digest: Uint8Array;
}

/** Reads contents of one held component out of its image. */
export interface ContentsReader {
  /** Fills `target` from `offset` of content number `content`. */
  read(content: number, target: Uint8Array, offset: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * The writing of one image in any order. It has the lock and the lease of an ingest of the same
 * digest: one writer at a time, across processes. `state` is what the last `checkpoint` recorded
 * with bytes that are durable; absent for a new one, and when what is there cannot be trusted.
 */
export interface Assembly {
  readonly blob: BlobReference;
  readonly state: Uint8Array | undefined;
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Reads back what was written; never written bytes are zero. */
  read(target: Uint8Array, position: number): Promise<void>;
  /**
   * A hint that the bytes before `upTo` will not be written again: they are hashed while others
   * still come. Writing them again only costs the time of hashing them anew.
   */
  settled(upTo: number): void;
  /** Makes everything written so far durable, then `state` (at most 4 MiB) that describes it. */
  checkpoint(state: Uint8Array): Promise<void>;
  /** Hashes the whole. @throws `repository.digest-mismatch` (corrupt): the bytes go */
  commit(): Promise<void>;
  /** Keeps what the last checkpoint made durable. */
  release(): Promise<void>;
  abort(): Promise<void>;
}

/** Encoded packs that were made once, for the next destination. Bounded; the oldest unused leave. */
export interface PackCache {
  /** Undefined when it is not there or not whole. */
  get(key: Digest): Promise<Uint8Array | undefined>;
  /** Keeps a pack; failing to is logged, never thrown. */
  put(key: Digest, pack: Uint8Array): Promise<void>;
  /** The size of a pack that is there. */
  sizeOf(key: Digest): Promise<number | undefined>;
}

/**
 * A cloud's components (the paper's VM-CMP repository). A component exists when its manifest is
 * admitted; that happens only when every blob it names is held and verified. A component that is
 * pinned by an owner (a machine, a migration) cannot be removed nor collected.
 */
export interface ComponentStore {
  list(): Promise<Component[]>;
  find(id: Digest): Promise<Component | undefined>;
  /**
   * One component by `name`, `name@version`, `kind/name`, `kind/name@version`, digest, or at least
   * 8 digits of one; the newest version where only a name is given.
   *
   * @throws `repository.component-unknown`, `repository.component-ambiguous` (misuse)
   */
  resolve(text: string): Promise<Component>;

  /**
   * Adds a component that was made here, from its finished EROFS image. It replaces what is held
   * about the same image.
   *
   * @throws `repository.component-invalid`, `repository.component-pinned` when it would replace a
   *   pinned component (misuse); as `ingest`
   */
  add(source: {
    readonly description: ComponentDescription;
    readonly fragments: readonly Fragment[];
    readonly image: ContentSource;
  }): Promise<Component>;

  /**
   * As `add`, of an image that is made on the way: `image` writes its bytes in order and says then
   * what they are, so that they are neither read nor hashed again. Where the same image is held, what
   * is held about it stays and is returned.
   *
   * @throws `repository.component-invalid` (misuse), `repository.no-space`; what `image` throws
   */
  write(source: {
    readonly description: ComponentDescription;
    readonly fragments: readonly Fragment[];
    readonly image: (sink: ByteSink) => Promise<BlobReference>;
  }): Promise<Component>;

  /** True when the blob is held and sound. A question only: `ingest` also keeps it from `collect`. */
  hasBlob(digest: Digest): Promise<boolean>;
  /**
   * Undefined when the blob is held and sound already. Either way the blob cannot be collected
   * until its manifest is admitted, the ingest is aborted, a day has passed, or this process ends.
   * `signal` ends the wait for another ingest of the same blob.
   *
   * @throws `repository.no-space`, `repository.size-mismatch` when it is held with another size
   */
  ingest(blob: BlobReference, signal?: AbortSignal): Promise<Ingest | undefined>;
  /** The blobs that the component of this held manifest needs (config, image, fragments). */
  blobsOf(manifest: BlobReference): Promise<BlobReference[]>;
  /**
   * Makes the component of a manifest exist; all blobs must be held. When a component with the
   * same image is held under another manifest, that one stays and is returned. Who has just
   * assembled the image says what it is made of, so that it is not read again.
   *
   * @throws `repository.manifest-invalid` (corrupt), `repository.blob-missing` (misuse),
   *   `repository.recipe-invalid` (bug) when the recipe is of another image; the component exists
   */
  admit(manifest: BlobReference, known?: { readonly recipe: HeldRecipe }): Promise<Component>;

  /** @throws `repository.blob-missing`, `repository.blob-corrupt` */
  openBlob(digest: Digest): Promise<BlobReader>;
  /**
   * The image's path, for the hypervisor. The file is hashed again when its size, mtime or ctime
   * differ from what was recorded.
   *
   * @throws `repository.component-unknown`, `repository.blob-corrupt`
   */
  imagePath(id: Digest): Promise<string>;
  fragments(id: Digest): Promise<Fragment[]>;

  /** Signatures that are kept of a held component; nobody has verified them here. */
  signatures(id: Digest): Promise<ComponentSignature[]>;
  /**
   * Keeps signatures of a held component, at most 16 and one for each key. Those of others (`own`
   * is false) displace none that are there.
   *
   * @throws `repository.component-unknown`
   */
  addSignatures(
    id: Digest,
    added: { readonly signatures: readonly ComponentSignature[]; readonly own: boolean },
  ): Promise<void>;

  /**
   * Adds to what an owner pins. The ids need not be held yet: a pinned blob or part is not
   * collected. To use a component, pin it first and look for it then.
   */
  pin(owner: string, ids: readonly Digest[]): Promise<void>;
  unpin(owner: string): Promise<void>;
  pins(): Promise<ReadonlyMap<string, readonly Digest[]>>;

  /**
   * Removes the component from the index, then the blobs that nothing else needs.
   *
   * @throws `repository.component-pinned`, `repository.component-unknown` (misuse)
   */
  remove(id: Digest): Promise<void>;
  /**
   * Removes blobs and parts that no component names, nobody pins and no live process has ingested
   * and not yet admitted.
   *
   * @throws `repository.blob-missing`, `repository.blob-corrupt` when a manifest in the index
   *   cannot be read, because what it names is not known
   */
  collect(options: { readonly dryRun: boolean }): Promise<CollectReport>;
  /**
   * What a held component is made of; read once from its image, then kept in the file index.
   *
   * @throws `repository.component-unknown`, `repository.blob-corrupt`
   */
  recipe(id: Digest): Promise<HeldRecipe>;
  /**
   * Where contents are held, each in any component, without reading images; undefined where in
   * none. A hint: pin the component, then open its contents.
   */
  locate(
    contents: readonly { readonly head: string; readonly sizeBytes: number }[],
  ): Promise<(HeldContent | undefined)[]>;
  /** @throws `repository.component-unknown`, `repository.blob-corrupt` */
  openContents(id: Digest): Promise<ContentsReader>;
  /**
   * As `ingest`, for an image whose bytes come in any order.
   *
   * @throws `repository.no-space`, `repository.size-mismatch`
   */
  assemble(blob: BlobReference, signal?: AbortSignal): Promise<Assembly | undefined>;
  readonly packs: PackCache;

  /** Reads and hashes everything, or one component. */
  verify(id?: Digest): Promise<VerifyReport>;
}
