/**
 * Signatures of components, in the form in which cosign keeps them beside images: an artifact under
 * the tag `sha256-HEX.sig`, HEX being the digest of the component's manifest. What is signed says
 * digest and id, so that it can be checked before a byte of the component is there.
 */
import * as z from "zod";
import {
  canonicalJson,
  hexOf,
  isDigest,
  type BlobReference,
  type ComponentSignature,
  type Digest,
  type Json,
} from "#core";
import { digestOf } from "./blobs.ts";
import { ID_ANNOTATION, MANIFEST_TYPE } from "./layout.ts";

const PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json";
const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
const SIGNATURE_ANNOTATION = "dev.cosignproject.cosign/signature";
const KEY_ANNOTATION = "vnd.tessera.signature.key";

/** Most signatures of one component. */
export const SIGNATURES_MAX = 16;
/** Largest manifest of signatures. */
export const SIGNATURES_BYTES_MAX = 64 * 1024;

/** What a signature is of. */
export interface Signable {
  readonly id: Digest;
  readonly manifest: BlobReference;
}

export function signatureTag(manifest: Digest): string {
  return `sha256-${hexOf(manifest)}.sig`;
}

/** The bytes that are signed: cosign's simple signing, as canonical JSON. */
export function signedBytes({ id, manifest }: Signable): Uint8Array {
  const payload = {
    critical: {
      identity: { "docker-reference": "" },
      image: { "docker-manifest-digest": manifest.digest },
      type: "cosign container image signature",
    },
    optional: { [ID_ANNOTATION]: id },
  };
  return new TextEncoder().encode(canonicalJson(payload));
}

interface PackedBlob extends BlobReference {
  readonly content: Uint8Array;
}

export interface SignaturePackage {
  readonly manifest: PackedBlob;
  readonly blobs: readonly PackedBlob[];
}

/** The artifact of a component's signatures. Pure; the order of the signatures does not matter. */
export function packageSignatures(
  component: Signable,
  signatures: readonly ComponentSignature[],
): SignaturePackage {
  const payload = pack(signedBytes(component));
  const sorted = signatures.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  const config = packJson({
    architecture: "",
    os: "",
    config: {},
    rootfs: { type: "layers", diff_ids: sorted.map(() => payload.digest) },
  });
  const manifest = packJson({
    schemaVersion: 2,
    mediaType: MANIFEST_TYPE,
    config: { mediaType: CONFIG_TYPE, digest: config.digest, size: config.sizeBytes },
    layers: sorted.map(({ key, signature }) => ({
      mediaType: PAYLOAD_TYPE,
      digest: payload.digest,
      size: payload.sizeBytes,
      annotations: { [SIGNATURE_ANNOTATION]: signature, [KEY_ANNOTATION]: key },
    })),
  });
  return { manifest, blobs: [config, payload] };
}

const layer = z.looseObject({
  mediaType: z.string(),
  digest: z.string(),
  annotations: z.record(z.string(), z.string()).exactOptional(),
});
const shape = z.looseObject({ layers: z.array(layer).max(256) });

/**
 * The signatures in such an artifact's manifest that are of this component and name their key;
 * none where it is something else. They are not verified here.
 */
export function readSignatures(component: Signable, content: Uint8Array): ComponentSignature[] {
  const payload = digestOf(signedBytes(component));
  const { success, data } = shape.safeParse(jsonOf(content));
  if (!success) return [];
  const found = data.layers.flatMap(({ mediaType, digest, annotations = {} }) => {
    if (mediaType !== PAYLOAD_TYPE || digest !== payload) return [];
    const [key, signature] = [annotations[KEY_ANNOTATION], annotations[SIGNATURE_ANNOTATION]];
    return isDigest(key) && isSignature(signature) ? [{ key, signature }] : [];
  });
  return found.slice(0, SIGNATURES_MAX);
}

/** Ed25519 signatures have 64 bytes. */
function isSignature(text: string | undefined): text is string {
  return text !== undefined && /^[A-Za-z0-9+/]{86}==$/.test(text);
}

function jsonOf(content: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(content).toString("utf8"));
  } catch {
    return undefined;
  }
}

function packJson(value: Json): PackedBlob {
  return pack(new TextEncoder().encode(canonicalJson(value)));
}

function pack(content: Uint8Array): PackedBlob {
  return { content, digest: digestOf(content), sizeBytes: content.length };
}
