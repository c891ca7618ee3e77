import {
  canonicalJson,
  type BlobReference,
  type ComponentDescription,
  type Fragment,
  type Json,
} from "#core";
import { digestOf } from "./blobs.ts";
import { CONFIG_TYPE, FRAGMENTS_TYPE, IMAGE_TYPE, MANIFEST_TYPE } from "./layout.ts";

interface PackedBlob extends BlobReference {
  readonly content: Uint8Array;
}

export interface Package {
  readonly config: PackedBlob;
  readonly fragments: PackedBlob;
  readonly manifest: PackedBlob;
}

/** A component's JSON blobs. Pure: equal input gives equal bytes on every cloud. */
export function packageComponent(
  description: ComponentDescription,
  fragments: readonly Fragment[],
  image: BlobReference,
): Package {
  const config = pack(description as unknown as Json);
  const glue = pack(fragments as unknown as Json);
  const manifest = pack({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: descriptorOf(CONFIG_TYPE, config),
    layers: [descriptorOf(IMAGE_TYPE, image), descriptorOf(FRAGMENTS_TYPE, glue)],
  });
  return { config, fragments: glue, manifest };
}

function pack(value: Json): PackedBlob {
  const content = new TextEncoder().encode(canonicalJson(value));
  return { content, digest: digestOf(content), sizeBytes: content.length };
}

function descriptorOf(mediaType: string, { digest, sizeBytes }: BlobReference) {
  return { mediaType, digest, size: sizeBytes };
}

/**
 * The name under which OCI tools find a component: `kind/name:version`, brought into the grammar
 * of `org.opencontainers.image.ref.name` (image specification, annotations): single separators
 * between alphanumerics. A name that is taken gets the head of the id behind it.
 */
export function referenceName(
  { kind, name, version }: ComponentDescription,
  id: string,
  taken: ReadonlySet<string>,
): string {
  const plain = `${kind}/${grammatical(name)}:${grammatical(version)}`;
  return taken.has(plain) ? `${plain}-${id.slice("sha256:".length, "sha256:".length + 12)}` : plain;
}

function grammatical(text: string): string {
  return text
    .replaceAll("~", "-")
    .replaceAll(/([-._:+])[-._:+]+/g, "$1")
    .replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
}
