/** What the two sides of a hot migration tell and keep, as schemas. */
import * as z from "zod";
import { words } from "#api";
import type { HotDescription } from "#hypervisor";

const text = z.string().max(1024);
const texts = z.array(text).max(1024);
const count = z.int().min(0);

/** The machine as its hypervisor runs it: the destination must be able to offer the same. */
export const descriptionShape: z.ZodType<HotDescription> = z.object({
  hypervisor: text,
  version: z
    .string()
    .max(64)
    .regex(/^\d+(\.\d+)*$/, "is not a version"),
  architecture: text,
  machineType: text,
  cpuModel: text,
  accelerator: text,
  cpus: count.max(1024),
  ramBytes: count,
  devices: texts,
  formats: texts,
});

/** Agreed on in the proposal. */
export const hotTermsShape = z.object({
  memory: words.memoryMethod,
  storage: words.storageMethod,
  /** Both hypervisors can receive pages on demand. */
  postcopy: z.boolean(),
  description: descriptionShape,
});

/** What the source says of the switch, from the pause on. */
export const switchShape = z.object({
  method: z.enum(["precopy", "postcopy"]),
  passes: count,
  /** Pages that went as references to components, and to pages sent before. */
  componentPages: count,
  repeatedPages: count,
});

export type HotTerms = z.output<typeof hotTermsShape>;
