export type * from "./contract.ts";
export { decodeMemory, type MemoryDecoderOptions } from "./decoder.ts";
export { MemoryEncoder, type MemoryEncoderOptions } from "./encoder.ts";
export { memoryLevel } from "./level.ts";
