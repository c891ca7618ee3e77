export { buildComponent, buildInto } from "./component.ts";
export type * from "./contract.ts";
export { lockDigest, originDigest, readLock, writeLock } from "./lock.ts";
export { parseRecipe } from "./recipe.ts";
export { lockRecipe } from "./resolve.ts";
