/** The command line: commands over the agent's API. */
export { connectAgent } from "./client.ts";
export type { AgentClient, CallOptions } from "./client.ts";
