export type * from "./contract.ts";
export { openRepository } from "./open.ts";
export { summaryOf } from "./summary.ts";
