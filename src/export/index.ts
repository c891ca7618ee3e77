export type * from "./contract.ts";
export { planExport } from "./export.ts";
