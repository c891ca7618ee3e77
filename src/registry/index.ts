export type * from "./contract.ts";
export { AUTH_FILE_BYTES_MAX, credentialsIn } from "./credentials.ts";
export { fetchContainerImage } from "./image.ts";
export { listComponents, listRepositories, type ListedComponent } from "./listing.ts";
export { pullComponent } from "./pull.ts";
export { pushComponent } from "./push.ts";
export { formatReference, parseReference, tagOf } from "./reference.ts";
