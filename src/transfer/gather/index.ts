export type * from "./contract.ts";
export { gatherComponents } from "./gather.ts";
