export { connectNbd } from "./client.ts";
export type * from "./contract.ts";
export { serveNbd } from "./server.ts";
