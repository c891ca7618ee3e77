export { startAgent, type Agent, type AgentOptions } from "./agent.ts";
export { initCloud, type InitOptions } from "./cloud.ts";
export { serveApi, type ApiServer, type ApiServerOptions } from "./http.ts";
