export type * from "./contract.ts";
export { decodeDescription } from "./decode.ts";
export { INDEX_TYPE, MANIFEST_BYTES_MAX, MANIFEST_TYPE } from "./layout.ts";
export { readManifest } from "./manifest.ts";
export {
  packageSignatures,
  readSignatures,
  SIGNATURES_BYTES_MAX,
  signatureTag,
  signedBytes,
  type Signable,
} from "./signature.ts";
export { openRepository, type RepositoryOptions } from "./open.ts";
export { summaryOf } from "./summary.ts";
export {
  chooseManifest,
  CONTAINER_TYPES,
  containerInvalid,
  decodeContainerConfig,
  decodeContainerManifest,
  IMAGE_JSON_BYTES_MAX,
  isIndexType,
  type ContainerManifest,
  type Platform,
} from "./container-image.ts";
