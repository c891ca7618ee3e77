export type * from "./contract.ts";
export { MANIFEST_BYTES_MAX, MANIFEST_TYPE } from "./layout.ts";
export { readManifest } from "./manifest.ts";
export { openRepository, type RepositoryOptions } from "./open.ts";
export { summaryOf } from "./summary.ts";
