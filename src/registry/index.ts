export type * from "./contract.ts";
export { AUTH_FILE_BYTES_MAX, credentialsIn } from "./credentials.ts";
export { pullComponent } from "./pull.ts";
export { pushComponent } from "./push.ts";
export { formatReference, parseReference } from "./reference.ts";
