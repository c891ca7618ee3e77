/** The fields of an appliance file, each with a sentence on what is allowed. */
import { parseSize } from "#core";
import { z } from "zod";

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const TIB = 2 ** 40;

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

/** The sentence on what is allowed, told apart for a field that is not there at all. */
function told(allowed: string): (issue: { readonly input?: unknown }) => string {
  return (issue) => (issue.input === undefined ? `is missing; it ${allowed}` : allowed);
}

function text(pattern: RegExp, allowed: string): z.ZodString {
  return z.string({ error: told(allowed) }).regex(pattern, { error: allowed });
}

function whole(least: number, most: number): z.ZodNumber {
  const error = `must be a whole number from ${least} to ${most}`;
  return z
    .int({ error: told(error) })
    .min(least, { error })
    .max(most, { error });
}

/** A size in whole 4 KiB blocks. */
function size(least: number, most: number, range: string): z.ZodType<number> {
  const error = `must be a size such as 512M or 1G (a multiple of 4K), ${range}`;
  return z.union([z.string(), z.number()], { error }).transform((value, context) => {
    const bytes = sizeOf(String(value));
    if (bytes >= least && bytes <= most && bytes % 4096 === 0) return bytes;
    context.addIssue({ code: "custom", message: error });
    return z.NEVER;
  });
}

function sizeOf(value: string): number {
  try {
    return parseSize(value);
  } catch {
    return Number.NaN;
  }
}

const DURATION = "must be a duration such as 300ms, 2s or 1min, from 1ms to 1h";
const UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 };

const duration = z.string({ error: DURATION }).transform((value, context) => {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|h)$/.exec(value.trim());
  const milliseconds = Math.round(Number(match?.[1]) * (UNITS_MS[match?.[2] ?? ""] ?? Number.NaN));
  if (milliseconds >= 1 && milliseconds <= 3_600_000) return milliseconds;
  context.addIssue({ code: "custom", message: DURATION });
  return z.NEVER;
});

const COMPONENT = "must name a component: name, name@version, name@range, kind/name or a digest";
const component = text(/^[A-Za-z0-9][A-Za-z0-9.+~:@/_<>=,-]{0,199}$/, COMPONENT);

const PORT_NAME =
  "must be a name of 1 to 32 lower-case letters, digits and hyphens, starting with a letter";
const port = fields({
  name: text(/^[a-z][a-z0-9-]{0,31}$/, PORT_NAME),
  guest: whole(1, 65_535),
  host: whole(0, 65_535).optional(),
});

/** Refuses a list in which two entries share a key. */
function distinct<T>(key: (item: T) => string | undefined, what: string) {
  return (items: readonly T[], context: z.core.$RefinementCtx): void => {
    const seen = new Set<string>();
    for (const [index, item] of items.entries()) {
      const value = key(item);
      if (value === undefined) continue;
      if (seen.has(value)) {
        const message = `${what} ${value} is given twice; each must be unique`;
        context.addIssue({ code: "custom", message, path: [index] });
      }
      seen.add(value);
    }
  };
}

function list<Item extends z.ZodType>(item: Item, most: number, what: string) {
  const error = `must be a list of at most ${most} ${what}`;
  return z.array(item, { error }).max(most, { error });
}

type Port = z.output<typeof port>;

const ports = list(port, 64, "ports, each with name, guest and perhaps host")
  .superRefine(distinct((item: Port) => item.name, "port name"))
  .superRefine(distinct(({ host }: Port) => (host ? String(host) : undefined), "host port"));

const place = text(
  /^[A-Za-z0-9][A-Za-z0-9.@_-]{0,254}$/,
  "must be a cloud's or a region's name: letters, digits, dots, hyphens",
);
const places = list(place, 64, "names").default([]);

const resources = fields({
  cpus: whole(1, 255).default(1),
  memory: size(64 * MIB, 4 * TIB, "from 64M to 4T").default(512 * MIB),
  data: size(64 * MIB, 16 * TIB, "from 64M to 16T").default(GIB),
  ports: ports.default([]),
});

const serviceLevel = fields({
  downtimeMax: duration.optional(),
  clouds: places,
  regions: places,
  priority: whole(0, 100).default(50),
  maySlowDown: z.boolean({ error: "must be true or false" }).default(true),
});

const cloudText = z.string({ error: "must be a text, as a block that begins with |" }).optional();

const cloudInit = fields({
  userData: cloudText,
  metaData: cloudText,
  networkConfig: cloudText,
});

const NAME =
  "must be a name of 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit";

/** An appliance file, decoded; sizes are in bytes, durations in milliseconds. */
export const recipeSchema = fields({
  name: text(/^[a-z0-9][a-z0-9-]{0,62}$/, NAME),
  kernel: component,
  os: component,
  programs: list(component, 64, "components")
    .superRefine(distinct((item: string) => item, "program"))
    .default([]),
  resources: resources.prefault({}),
  serviceLevel: serviceLevel.prefault({}),
  cloudInit: cloudInit.optional(),
});

export type ApplianceFile = z.output<typeof recipeSchema>;
