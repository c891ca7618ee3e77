import type { ComponentDescription, Digest, Fragment } from "#core";
import type { Tree } from "#image";

/** An archive of Debian packages, as in `sources.list(5)`. */
export interface Source {
  /** Short name by which a lock refers to it. */
  readonly name: string;
  /** Root of the archive: the directory that holds `dists` and `pool`. */
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** Key ring that signs the archive; a path on the building machine and in the guest. */
  readonly keyring: string;
}

/** A system user with an id that is the same in every component, and a group of its own. */
export interface FixedUser {
  readonly name: string;
  /** Of the user and of its group: 100 to 999 (Debian policy 9.2.2). */
  readonly id: number;
  readonly home: string;
  readonly shell: string;
  readonly comment: string;
}

export interface FixedGroup {
  readonly name: string;
  readonly id: number;
}

export interface RecipeFile {
  /** Absolute path in the guest. */
  readonly path: string;
  readonly text: string;
  /** Permission bits; 0o644 unless told. */
  readonly mode: number;
}

export interface RecipeLink {
  readonly path: string;
  readonly target: string;
}

/** How to make a component, validated; the format is in `doc/recipes.md`. */
export interface Recipe {
  readonly kind: "kernel" | "os" | "program";
  readonly name: string;
  readonly architecture: string;
  readonly sources: readonly Source[];
  /** What is asked for; what these depend on comes with them. */
  readonly packages: readonly string[];
  /** `kernel` only: packages whose programs are run while building and that are not part of it. */
  readonly tools: readonly string[];
  /** `program` only: name of the OS recipe that it is installed over. */
  readonly base?: string;
  readonly users: readonly FixedUser[];
  readonly groups: readonly FixedGroup[];
  readonly files: readonly RecipeFile[];
  readonly links: readonly RecipeLink[];
  /** Absolute directories whose content is made on first boot. */
  readonly instancePaths: readonly string[];
}

/** A package file that a recipe's lock names: the same lock gives the same component. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Path below the archive's root, for instance `pool/main/n/nginx/nginx_1.22.1-9_amd64.deb`. */
  readonly file: string;
  /** Which of the recipe's sources has it. */
  readonly source: string;
  readonly sizeBytes: number;
  readonly sha256: Digest;
}

/** Exactly what a recipe is made from; the format is in `doc/recipes.md`. */
export interface Lock {
  readonly name: string;
  readonly architecture: string;
  /** `SOURCE_DATE_EPOCH`: no file of the component is younger. Seconds since the Unix epoch. */
  readonly epoch_s: number;
  /** `program` only: digest of the lock of the OS that the packages were resolved against. */
  readonly base?: Digest;
  /** Archive roots by source name. */
  readonly sources: Readonly<Record<string, string>>;
  /** Sorted by name, then architecture. */
  readonly packages: readonly LockedPackage[];
}

export interface LockedRecipe {
  readonly recipe: Recipe;
  readonly lock: Lock;
}

/** What building gives: a tree and its description, ready for the image writer and a repository. */
export interface BuiltComponent {
  readonly description: ComponentDescription;
  readonly fragments: readonly Fragment[];
  readonly tree: Tree;
  /** Frees the files that the tree reads from; the tree is not to be read after it. */
  close(): Promise<void>;
}

export interface BuildProgress {
  readonly step: "resolve" | "download" | "install" | "difference" | "image";
  readonly detail: string;
  readonly done?: number;
  readonly total?: number;
}

export interface BuildPlaces {
  /** Package files and OS trees by digest: shared by all builds, safe to delete. */
  readonly cacheDirectory: string;
  /** Temporary files; every user must be able to traverse the path when not built as root. */
  readonly workDirectory: string;
  readonly progress?: (progress: BuildProgress) => void;
  readonly signal?: AbortSignal;
}

export interface BuildRequest extends BuildPlaces, LockedRecipe {
  /** The OS of a `program`. */
  readonly base?: LockedRecipe;
  /** How packages are installed; `auto` takes `root` for root and `unshare` for others. */
  readonly mode?: "auto" | "root" | "unshare";
}
