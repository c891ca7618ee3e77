/** The fields of a scenario file, each with a sentence on what is allowed. */
import { COMPONENT_KINDS, parseRate, parseSize } from "#core";
import { z } from "zod";
import { LINK_PROFILES } from "./links.ts";
import { PLACEMENT_NAMES } from "./placement-of.ts";

const CLOUDS_MAX = 100_000;
const MACHINES_MAX = 10_000_000;
const MIGRATIONS_MAX = 100_000_000;
const REGIONS_MAX = 256;

/** An object whose unknown fields are refused with the list of the known ones. */
function fields<Shape extends z.ZodRawShape>(shape: Shape): z.ZodObject<Shape, z.core.$strict> {
  const known = Object.keys(shape).join(", ");
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === "unrecognized_keys"
        ? `unknown field; allowed here: ${known}`
        : `must be a map of these fields: ${known}`,
  });
}

function told(allowed: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => (issue.input === undefined ? `is missing; it ${allowed}` : allowed);
}

const NAME = "must be a name of 1 to 64 letters, digits, dots, hyphens, pluses or underscores";
const name = z.string({ error: told(NAME) }).regex(/^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$/, NAME);

function whole(least: number, most: number): z.ZodNumber {
  const error = `must be a whole number from ${least} to ${most}`;
  return z
    .int({ error: told(error) })
    .min(least, error)
    .max(most, error);
}

function part(least: number, most: number): z.ZodNumber {
  const error = `must be a number from ${least} to ${most}`;
  return z
    .number({ error: told(error) })
    .min(least, error)
    .max(most, error);
}

function oneOf<const Names extends readonly string[]>(names: Names) {
  return z.enum(names, { error: told(`must be one of ${names.join(", ")}`) });
}

/** A text with a unit that `parse` takes; `allowed` says which. */
function measured(allowed: string, parse: (text: string) => number): z.ZodType<number> {
  const error = told(allowed);
  return z.union([z.string(), z.number()], { error }).transform((value, context) => {
    const parsed = parsedOr(String(value), parse);
    if (parsed >= 0 && parsed < Number.MAX_SAFE_INTEGER) return parsed;
    context.addIssue({ code: "custom", message: allowed });
    return z.NEVER;
  });
}

function parsedOr(text: string, parse: (text: string) => number): number {
  try {
    return parse(text);
  } catch {
    return Number.NaN;
  }
}

const SECONDS: Readonly<Record<string, number>> = { ms: 1e-3, s: 1, min: 60, h: 3600, d: 86_400 };

function seconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)$/.exec(text.trim());
  return Number(match?.[1]) * (SECONDS[match?.[2] ?? ""] ?? Number.NaN);
}

const duration = measured("must be a duration such as 50ms, 30s, 10min, 6h or 7d", seconds);
const longer = duration.refine((value) => value > 0, { error: "must be longer than 0" });
const size = measured("must be a size such as 512M or 1G, and not negative", parseSize);
const someBytes = size.refine((value) => value > 0, { error: "must be more than 0 bytes" });
const rate = measured("must be a rate such as 50Mbit/s or 1Gbit/s, above 0", parseRate);

function list<Item extends z.ZodType>(item: Item, least: number, most: number, what: string) {
  const error = `must be a list of ${least} to ${most} ${what}`;
  return z
    .array(item, { error: told(error) })
    .min(least, error)
    .max(most, error);
}

const network = fields({
  links: oneOf(LINK_PROFILES).optional(),
  regions: list(name, 1, REGIONS_MAX, "names").optional(),
  rates: list(list(rate, 1, REGIONS_MAX, "rates"), 1, REGIONS_MAX, "rows").optional(),
  roundTrips: list(list(duration, 1, REGIONS_MAX, "durations"), 1, REGIONS_MAX, "rows").optional(),
  roundTrip: duration.default(0.05),
  rampUp: z.boolean({ error: "must be true or false" }).default(false),
});

const component = fields({
  name,
  kind: oneOf(COMPONENT_KINDS),
  size: someBytes,
  ratio: part(0, 1).default(0.3),
  os: list(name, 1, 64, "names of OS components").optional(),
  weight: part(0, 1e9).optional(),
});

const appliance = fields({ name, components: list(name, 2, 256, "components, the kernel first") });

const catalogue = fields({
  profile: oneOf(["debian"]).optional(),
  programs: whole(1, 100_000).optional(),
  components: list(component, 2, 100_000, "components").optional(),
  named: list(appliance, 1, 10_000, "appliances").optional(),
  appliances: whole(1, 100_000).default(200),
  programsMean: part(0, 64).default(3),
  zipf: part(0, 3).default(1),
  releaseEvery: longer.optional(),
  similarity: fields({ held: part(0, 1), patched: part(0, 1) })
    .refine(({ held, patched }) => held + patched <= 1, {
      error: "held and patched must not be more than 1 together",
    })
    .default({ held: 0.67, patched: 0.26 }),
});

const repository = fields({
  policy: oneOf(["unlimited", "lru", "lfu", "greedy-dual-size"]),
  capacity: size.optional(),
}).refine(({ policy, capacity }) => (policy === "unlimited") === (capacity === undefined), {
  error: "needs a capacity, unless its policy is unlimited",
});

const cloud = fields({
  name,
  count: whole(1, CLOUDS_MAX).default(1),
  region: name.optional(),
  uplink: rate,
  downlink: rate.optional(),
  cpus: part(0.1, 1e7).default(1000),
  memory: someBytes.default(2 ** 40),
  egressPricePerGB: part(0, 1e6).default(0),
  repository: repository.default({ policy: "unlimited" }),
  holds: list(name, 0, 10_000, "components").default([]),
  joins: duration.default(0),
  leaves: longer.optional(),
  failEvery: longer.optional(),
  repair: longer.default(3600),
});

const machine = fields({ name, cloud: name, appliance: name, userData: size.default(0) });

const machines = fields({
  named: list(machine, 1, 100_000, "machines").optional(),
  count: whole(0, MACHINES_MAX).default(0),
  userData: fields({
    median: size.default(1e9),
    sigma: part(0, 4).default(1),
    ratio: part(0, 1).default(0.4),
  }).prefault({}),
  writes: size.default(10_000),
  cpus: part(0.01, 1024).default(2),
  memory: someBytes.default(2 ** 30),
  dirty: fields({
    median: size.default(2e6),
    sigma: part(0, 4).default(1),
    within: someBytes.optional(),
  }).prefault({}),
  downtimeMax: longer.optional(),
  lifetime: longer.optional(),
  load: fields({
    mean: part(0, 1).default(0.4),
    spread: part(0, 1).default(0.2),
    changeEvery: longer.optional(),
    daily: part(0, 1).default(0),
  }).prefault({}),
  stop: duration.default(5),
  compose: duration.default(0.5),
  start: duration.default(1),
  boot: duration.default(15),
});

const migrations = fields({
  named: list(
    fields({ machine: name, to: name, at: duration.default(0) }),
    1,
    100_000,
    "migrations",
  ).optional(),
  count: whole(0, MIGRATIONS_MAX).default(0),
  returns: part(0, 1).default(0),
});

const policy = fields({
  name: name.optional(),
  transfer: oneOf(["monolithic", "cic", "cic-delta", "cic-nearest", "cic-prefetch"]).default("cic"),
  hot: oneOf(["auto", "precopy", "postcopy"]).optional(),
  placement: oneOf(PLACEMENT_NAMES).default("none"),
  candidates: whole(1, 64).default(2),
  round: longer.default(600),
}).refine(({ transfer, hot }) => transfer !== "monolithic" || hot === undefined, {
  path: ["hot"],
  error: "a monolithic block moves while the machine is off; leave hot out, or transfer by cic",
});

export const scenarioSchema = fields({
  name,
  seed: whole(0, Number.MAX_SAFE_INTEGER).default(1),
  duration: longer,
  sample: longer.optional(),
  memory: someBytes.default(2 ** 31),
  network: network.prefault({}),
  catalogue,
  clouds: list(cloud, 1, CLOUDS_MAX, "clouds or groups of clouds"),
  machines,
  migrations,
  policies: list(policy, 1, 64, "policies"),
});

export type ScenarioFile = z.output<typeof scenarioSchema>;
