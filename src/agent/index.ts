export { serveApi, type ApiServer, type ApiServerOptions } from "./http.ts";
