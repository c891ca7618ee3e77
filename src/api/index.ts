/** The agent's API: its operations, their schemas, and how they are written and read. */
export * from "./classes.ts";
export * as words from "./words.ts";
export * from "./codec.ts";
export * from "./operations.ts";
export * from "./openapi.ts";
export type * from "./types.ts";
