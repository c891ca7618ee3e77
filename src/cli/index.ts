/** The command line: commands over the agent's API. `main.ts` is its process. */
export { connectAgent } from "./client.ts";
export type { AgentClient, CallOptions } from "./client.ts";
export { runCli } from "./program.ts";
export type { Surroundings, TextOutput } from "./surroundings.ts";
