export type * from "./contract.ts";
export { compose } from "./compose.ts";
export type { ComposeOptions } from "./compose.ts";
export { checkConstraints, describeNeed } from "./constraints.ts";
export { DATA_LABEL, NO_FSTAB } from "./init-script.ts";
export { parseAppliance } from "./recipe.ts";
export { applianceDigest, resolveAppliance } from "./resolve.ts";
export { createUserData, userDataUuid, withUserData } from "./user-data.ts";
export type { UserDataOptions } from "./user-data.ts";
