export * from "./advise.ts";
export * from "./choose.ts";
export * from "./contract.ts";
export * from "./gate.ts";
export * from "./policies.ts";
export * from "./trend.ts";
