export * from "./destination.ts";
export * from "./memory-forecast.ts";
export * from "./memory-strategy.ts";
export * from "./plan.ts";
export * from "./source.ts";
export * from "./status.ts";
export { diagramOf } from "./table.ts";
