export type * from "./contract.ts";
export { openRepository, type RepositoryOptions } from "./open.ts";
export { summaryOf } from "./summary.ts";
