export type * from "./contract.ts";
export { GUEST_PAGE_BYTES } from "./format.ts";
export { RamStreamParser } from "./parser.ts";
export { eventBytes, pageHead } from "./writer.ts";
