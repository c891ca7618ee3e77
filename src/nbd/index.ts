export type * from "./contract.ts";
export { serveNbd } from "./server.ts";
