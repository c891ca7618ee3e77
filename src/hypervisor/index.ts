export type * from "./contract.ts";
export { compatible } from "./qemu/hot/compatible.ts";
export { createQemu, type QemuOptions } from "./qemu/hypervisor.ts";
export * from "./qemu/ram-stream/index.ts";
