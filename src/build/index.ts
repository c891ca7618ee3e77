export { buildComponent, buildInto } from "./component.ts";
export type * from "./contract.ts";
export { BUSYBOX_PATH, unpackKernel } from "./kernel.ts";
export { lockDigest, originDigest, readLock, writeLock } from "./lock.ts";
export { parseRecipe } from "./recipe.ts";
export { lockRecipe } from "./resolve.ts";
export { parseRelations } from "./relations.ts";
export { field, parseStanzas, type Stanza } from "./stanzas.ts";
