export { compressionLevel, type CompressionMode } from "./compression.ts";
export type * from "./contract.ts";
export * from "./gather/index.ts";
export type { ResumeStore } from "./handshake.ts";
export { loadOrCreateDataIdentity, type DataIdentity } from "./identity.ts";
export type { Timing } from "./protocol.ts";
export { connectReceiver, type ReceiverOptions } from "./receiver.ts";
export { startDataServer, type DataServer, type DataServerOptions } from "./server.ts";
export type { SessionOffer } from "./session.ts";
export { PageIndex } from "./page-index.ts";
export { newToken } from "./tokens.ts";
export {
  estimateContents,
  type ContentsEstimate,
  type EstimateInput,
} from "./estimate-contents.ts";
export { blocksPath } from "./user-data-target.ts";
export { estimateUserData } from "./estimate-user-data.ts";
