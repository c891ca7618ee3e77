import { hasCode, type BlobReference } from "#core";
import { decodeManifest, type ComponentBlobs } from "./decode.ts";
import { manifestInvalid } from "./failures.ts";
import { CONFIG_BYTES_MAX, FRAGMENTS_BYTES_MAX } from "./layout.ts";

/**
 * The blobs that a component's manifest names, within their bounds.
 *
 * @throws `repository.manifest-invalid` (corrupt)
 */
export function readManifest(manifest: BlobReference, content: Uint8Array): ComponentBlobs {
  if (content.length !== manifest.sizeBytes) {
    const reason = `it has ${content.length} bytes, not ${manifest.sizeBytes}`;
    throw manifestInvalid(manifest.digest, reason);
  }
  const blobs = decoded(manifest, content);
  const { config, fragments } = blobs;
  if (config.sizeBytes > CONFIG_BYTES_MAX || fragments.sizeBytes > FRAGMENTS_BYTES_MAX) {
    throw manifestInvalid(manifest.digest, "config or fragments are larger than allowed");
  }
  return blobs;
}

function decoded(manifest: BlobReference, content: Uint8Array): ComponentBlobs {
  try {
    return decodeManifest(content);
  } catch (error) {
    if (!hasCode(error, "repository.json-invalid")) throw error;
    throw manifestInvalid(manifest.digest, error.message, error);
  }
}
