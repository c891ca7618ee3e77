export type * from "./contract.ts";
export { nearestBases } from "./bases.ts";
export { isCompressed } from "./content-kind.ts";
export { decodeDifference, differenceMemoryBytes, encodeDifference } from "./difference.ts";
export { TableSpace } from "./difference-match.ts";
export {
  BITS_PER_SECOND_UNKNOWN,
  chooseEncoding,
  ENCODING_OPTIONS,
  EQUAL_SHARE,
  type EncodingFacts,
  type EncodingForecast,
  type EncodingOption,
  forecastEncoding,
  PACK_OVERHEAD_s,
} from "./encoding.ts";
export { type PairedContent, PATCHED_LIMITS, planPacks } from "./packs.ts";
export { chooseReferences } from "./references.ts";
export { similarity, type Sketcher, sketcher } from "./sketch.ts";
export {
  SOLID_LEVELS,
  type SolidParameters,
  solidMemoryBytes,
  solidParameters,
} from "./zstd-parameters.ts";
export {
  estimateBytes,
  type PackSample,
  type PackToSend,
  type WireEstimate,
  wireBytesOf,
} from "./estimate.ts";
export {
  fetchSeconds,
  prefersWhole,
  rankHolders,
  togetherSeconds,
  worthwhileHolders,
} from "./holders.ts";
export {
  createShares,
  JOB_BYTES_MAX,
  type ShareJob,
  type Shares,
  type ShareSource,
} from "./shares.ts";
