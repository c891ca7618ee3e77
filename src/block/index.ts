export {
  BlockDigests,
  blockDigest,
  hashBlocks,
  loadBlockDigests,
  readBlockDigests,
  saveBlockDigests,
} from "./block-digests.ts";
export { BLOCK_BYTES, nonZeroBlocks, type IndexedBlock } from "./blocks.ts";
export type * from "./contract.ts";
export {
  convertDisk,
  qemuImgCommand,
  formatFault,
  knownFormats,
  replayLog,
  type FormattedDisk,
} from "./convert.ts";
export { checkRange, closedError, readOnlyError } from "./errors.ts";
export { faultyDevice, type DeviceFault, type DeviceOperation } from "./faulty.ts";
export { createFileDevice, openFileDevice } from "./file.ts";
export { createMemoryDevice } from "./memory.ts";
export { applyOverlay, createOverlay, openOverlayDevice, type OverlayDevice } from "./overlay.ts";
export { openQcow2Image } from "./qcow2-image.ts";
export {
  userDataDigest,
  userDataHasher,
  type UserDataDigest,
  type UserDataHasher,
} from "./user-data-digest.ts";
export { isZero } from "./zeroes.ts";
