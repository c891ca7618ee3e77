import type { Digest } from "./digest.ts";

/** The paper's kinds of VM component (section III); `format` is a descriptor and has no bytes. */
export type ComponentKind = "kernel" | "os" | "program";

export const COMPONENT_KINDS: readonly ComponentKind[] = ["kernel", "os", "program"];

/** A Debian package that went into a component, as dpkg names it. */
export interface PackageReference {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
}

/**
 * Something a component offers or needs.
 *
 * - `soname`: a shared object name, with the highest symbol version of each series where known
 *   (`libc.so.6`, version `GLIBC_2.36`): a *binary* constraint;
 * - `package`: a Debian package relation (`libc6`, `>= 2.34`): a *package* constraint;
 * - `user`, `os`: a system user; an operating system id such as `debian-12`.
 */
export interface Constraint {
  readonly type: "soname" | "package" | "user" | "os";
  readonly name: string;
  /** A version offered, or the version needed. */
  readonly version?: string;
  /** For `package` needs only; absent means any version. */
  readonly relation?: "<<" | "<=" | "=" | ">=" | ">>";
  /** For needs: other names that satisfy it as well (Debian's `a | b`). */
  readonly alternatives?: readonly Constraint[];
}

/** The file paths that must be merged when programs are stacked, as fragments of the glue. */
export interface Fragment {
  /** Absolute path in the guest, for instance `/etc/passwd` or `/var/lib/dpkg/status`. */
  readonly path: string;
  /** The whole file for an `os` component; what installing added or replaced for a `program`. */
  readonly text: string;
}

/** What a component is, apart from its bytes: the `config` of its OCI artifact. */
export interface ComponentDescription {
  readonly kind: ComponentKind;
  /** Lower-case name, for instance `debian-12` or `nginx`. */
  readonly name: string;
  readonly version: string;
  /** Debian's architecture name, for instance `amd64`. */
  readonly architecture: string;
  readonly packages: readonly PackageReference[];
  readonly provides: readonly Constraint[];
  readonly requires: readonly Constraint[];
  /** Absolute paths that hold instance data and are made on first boot. */
  readonly instancePaths: readonly string[];
  /** Digest of the canonical recipe and lock that it was built from. */
  readonly recipe?: Digest;
  /** For `kernel`: the release, as `uname -r` prints it. */
  readonly kernelRelease?: string;
}

/** A component that a repository holds. `id` is the sha256 of its EROFS image. */
export interface Component {
  readonly id: Digest;
  readonly sizeBytes: number;
  /** Digest and size of the fragments blob (JSON list of {@link Fragment}). */
  readonly fragments: BlobReference;
  /** Digest and size of the OCI manifest: packaging, never identity. */
  readonly manifest: BlobReference;
  readonly description: ComponentDescription;
}

/** A detached signature of a component's manifest and id (doc/registries.md, "Signatures"). */
export interface ComponentSignature {
  /** sha256 of the signer's public key, SPKI DER. */
  readonly key: Digest;
  /** Ed25519, base64. */
  readonly signature: string;
}

export interface BlobReference {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** What travels in an offer or a negotiation to name a component. */
export interface ComponentReference {
  readonly id: Digest;
  readonly kind: ComponentKind;
  readonly name: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly manifest: BlobReference;
}

export function referenceOf(component: Component): ComponentReference {
  const { id, sizeBytes, manifest, description } = component;
  const { kind, name, version } = description;
  return { id, kind, name, version, sizeBytes, manifest };
}
