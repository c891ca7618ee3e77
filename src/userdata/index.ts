export type * from "./contract.ts";
export { nextStep, type PushFacts, type PushReason, type PushStep } from "./hybrid.ts";
export { openOnDemandDevice, type OnDemandOptions } from "./on-demand.ts";
