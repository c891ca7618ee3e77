import { join } from "node:path";
import { hexOf, isDigest, type Digest } from "#core";

/** OCI image specification 1.1: media types of the manifest and the index. */
export const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
export const INDEX_TYPE = "application/vnd.oci.image.index.v1+json";

/** Media types of a component's blobs; `doc/repository.md` specifies them. */
export const CONFIG_TYPE = "application/vnd.tessera.component.v1+json";
export const IMAGE_TYPE = "application/vnd.tessera.component.image.v1.erofs";
export const FRAGMENTS_TYPE = "application/vnd.tessera.component.fragments.v1+json";

export const REFERENCE_ANNOTATION = "org.opencontainers.image.ref.name";
/** On an index entry: the component's id, so that it can be removed when its manifest is corrupt. */
export const ID_ANNOTATION = "vnd.tessera.component.id";

export const MANIFEST_BYTES_MAX = 2 ** 20;
export const CONFIG_BYTES_MAX = 16 * 2 ** 20;
export const FRAGMENTS_BYTES_MAX = 64 * 2 ** 20;
export const INDEX_BYTES_MAX = 64 * 2 ** 20;
/** Bound of the small records below `tessera/`: pins, leases, part states. */
export const RECORD_BYTES_MAX = 16 * 2 ** 20;

/** Where everything lies below a repository's directory. */
export interface Layout {
  readonly directory: string;
  /** `oci-layout`. */
  readonly marker: string;
  readonly index: string;
  readonly blobs: string;
  readonly holders: string;
  readonly locks: string;
  readonly leases: string;
  readonly parts: string;
  readonly checked: string;
  readonly pins: string;
  readonly packs: string;
  /** SQLite databases of what the components' images are made of. */
  readonly fileIndex: string;
  blob(digest: Digest): string;
  part(digest: Digest): string;
  partState(digest: Digest): string;
  /** The bytes of an image that is written in any order. */
  assembly(digest: Digest): string;
  assemblyState(digest: Digest): string;
  pack(key: Digest): string;
  checkedRecord(digest: Digest): string;
}

export function layoutOf(directory: string): Layout {
  const state = join(directory, "tessera");
  const blobs = join(directory, "blobs", "sha256");
  const parts = join(state, "ingest");
  const checked = join(state, "checked");
  const packs = join(state, "packs");
  return {
    directory,
    marker: join(directory, "oci-layout"),
    index: join(directory, "index.json"),
    blobs,
    holders: join(state, "holders"),
    locks: join(state, "locks"),
    leases: join(state, "leases"),
    parts,
    checked,
    pins: join(state, "pins"),
    packs,
    fileIndex: join(state, "files"),
    blob: (digest) => join(blobs, hexOf(digest)),
    part: (digest) => join(parts, `${hexOf(digest)}.part`),
    partState: (digest) => join(parts, `${hexOf(digest)}.json`),
    assembly: (digest) => join(parts, `${hexOf(digest)}.assembly`),
    assemblyState: (digest) => join(parts, `${hexOf(digest)}.state`),
    pack: (key) => join(packs, `${hexOf(key)}.pack`),
    checkedRecord: (digest) => join(checked, `${hexOf(digest)}.json`),
  };
}

/** Every directory of a layout. */
export function directoriesOf(layout: Layout): string[] {
  const { blobs, holders, locks, leases, parts, checked, pins, packs, fileIndex } = layout;
  return [blobs, holders, locks, leases, parts, checked, pins, packs, fileIndex];
}

/** The digest that a file is named after, with or without the extension; undefined for others. */
export function digestOfName(name: string, extension = ""): Digest | undefined {
  if (!name.endsWith(extension)) return undefined;
  const digest = `sha256:${name.slice(0, name.length - extension.length)}`;
  return isDigest(digest) ? digest : undefined;
}
