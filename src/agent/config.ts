import { availableParallelism, totalmem } from "node:os";
import { LineCounter, parseDocument, stringify, type Document } from "yaml";
import * as z from "zod";
import { DISK_FORMATS, parseRate, parseSize, TesseraError, type FileSystem } from "#core";
import { parseReference } from "#registry";

const label = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "is not a lower-case name");
const domain = z
  .string()
  .max(255)
  .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, "is not a domain");
const host = z.string().min(1).max(255);
const port = z.int().min(1).max(65535);
const address = z.strictObject({ host, port });

/** A value that `parse` turns into another; its own words become the message. */
function parsed<T>(parse: (text: string) => T) {
  return z.string().transform((text, context) => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "?" });
      return z.NEVER;
    }
  });
}

function parseSeconds(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|min|h)$/.exec(text.trim());
  const unit = { ms: 1, s: 1000, min: 60_000, h: 3_600_000 }[match?.[2] ?? ""];
  if (match === null || unit === undefined) throw new Error(`"${text}" is not a time such as 60s`);
  return Number(match[1]) * unit;
}

/** Below its name lie the components, as `NAME/KIND/COMPONENT`. */
function parseUpstream(text: string): { host: string; name: string } {
  const { host, name, tag, digest } = parseReference(text);
  if (tag === undefined && digest === undefined) return { host, name };
  throw new Error(`"${text}" has a tag or a digest`);
}

const file = z.string().min(1).max(4096);

const upstreamFields = z.strictObject({
  registry: parsed(parseUpstream),
  /** With `passwordFile`; files are relative to the state directory and read when needed. */
  username: z.string().min(1).max(1024).optional(),
  passwordFile: file.optional(),
  /** Credentials as docker and skopeo keep them. */
  authFile: file.optional(),
  /** PEM of the authority that signs the registry's certificate. */
  caFile: file.optional(),
  plainHttp: z.boolean().default(false),
  /** What is made here is sent there. */
  push: z.boolean().default(false),
  /** From there, until it has been measured. */
  link: parsed(parseRate).optional(),
  pricePerGB: z.number().min(0).default(0),
});

const upstream = upstreamFields.refine(
  ({ username, passwordFile }) => (username === undefined) === (passwordFile === undefined),
  { error: "needs username and passwordFile together", path: ["username"] },
);

const shape = z.strictObject({
  cloud: label,
  domain,
  region: label.default("default"),
  /** JID of the federation's room. */
  room: z.string().min(3).max(512),
  xmpp: z.discriminatedUnion("server", [
    z.strictObject({
      server: z.literal("embedded"),
      host: host.default("127.0.0.1"),
      clientPort: port,
      serverPort: port,
      /** Where other clouds reach the server, when that is elsewhere. */
      advertise: address.optional(),
    }),
    z.strictObject({
      server: z.literal("external"),
      host,
      port,
      /** A file beside this one that holds nothing but the agent's password. */
      passwordFile: z.string().min(1),
      /** PEM file of the CA that signs the server; absent for public CAs. */
      caFile: z.string().min(1).optional(),
      /** Where other clouds' servers reach it, when DNS does not tell. */
      advertise: address.optional(),
    }),
  ]),
  data: z.strictObject({
    host: host.default("127.0.0.1"),
    port,
    advertise: z.array(address).max(8).optional(),
  }),
  resources: z
    .strictObject({ cpus: z.int().min(1).optional(), memory: parsed(parseSize).optional() })
    .prefault({}),
  /** Uplink, for plans. */
  link: parsed(parseRate).optional(),
  /** Of one gigabyte that leaves this cloud. */
  egressPricePerGB: z.number().min(0).default(0),
  receives: z.boolean().default(true),
  /** Sending components that are held to other clouds' destinations. */
  help: z
    .strictObject({
      enabled: z.boolean().default(true),
      sessions: z.int().min(1).max(64).default(4),
      /** Of each session. */
      rate: parsed(parseRate).optional(),
      /** After which a session ends, unless it is asked for again. */
      time: parsed(parseSeconds).default(3_600_000),
    })
    .prefault({}),
  /** A registry that holds components besides the members of the federation. */
  upstream: upstream.optional(),
  /** By whom components must be signed, by where they come from. */
  signatures: z
    .strictObject({
      /** A cloud, a registry's HOST[:PORT], or `any`: signers of whom one must have signed. */
      required: z.record(z.string().min(1).max(255), z.array(label).max(16)).default({}),
    })
    .prefault({}),
  /** Earlier copies of user data, so that a machine comes back at the cost of what has changed. */
  lineage: z
    .strictObject({
      keep: z.boolean().default(true),
      bytesMax: parsed(parseSize).default(32 * 2 ** 30),
    })
    .prefault({}),
  storage: z
    .strictObject({
      /** A directory that other clouds reach too: user data blocks of new machines lie there. */
      shared: z.string().max(4096).regex(/^\//, "is not an absolute path").optional(),
      /** Of the disks of machines that arrive cold or warm. */
      format: z.enum(DISK_FORMATS).default("raw"),
    })
    .prefault({}),
  times: z
    .strictObject({
      peerTimeout: parsed(parseSeconds).default(120_000),
      stopTimeout: parsed(parseSeconds).default(90_000),
      bootTimeout: parsed(parseSeconds).default(300_000),
      retry: parsed(parseSeconds).default(1000),
    })
    .prefault({}),
});

export type Config = z.output<typeof shape>;
export type UpstreamConfig = z.output<typeof upstream>;

/** Virtual CPUs for each real one: most guests are idle most of the time. */
const CPU_OVERCOMMIT = 4;

/** What this host has to give where the configuration is silent. */
export function hostResources(config: Config): { cpus: number; memoryBytes: number } {
  const { cpus, memory } = config.resources;
  return {
    cpus: cpus ?? availableParallelism() * CPU_OVERCOMMIT,
    memoryBytes: memory ?? Math.floor(totalmem() * 0.75),
  };
}

/**
 * Reads `cloud.yaml`.
 *
 * @throws `agent.config-invalid` (misuse), naming line and field
 */
export function parseConfig(text: string, fileName: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [syntax] = document.errors;
  if (syntax !== undefined) {
    throw invalid(fileName, lines.linePos(syntax.pos[0]).line, syntax.message);
  }
  const result = shape.safeParse(valueOf(document, fileName));
  if (result.success) return result.data;
  const { path, message } = faultOf(result.error.issues[0]);
  const offset = offsetOf(document, path);
  const line = offset === undefined ? undefined : lines.linePos(offset).line;
  throw invalid(fileName, line, path.length === 0 ? message : `${path.join(".")}: ${message}`);
}

function valueOf(document: Document.Parsed, fileName: string): unknown {
  try {
    return document.toJS({ maxAliasCount: 0 }) as unknown;
  } catch (cause) {
    throw invalid(fileName, undefined, cause instanceof Error ? cause.message : "is invalid");
  }
}

type Path = readonly (string | number)[];

/** A member that is not known is named itself, and not the mapping that holds it. */
function faultOf(issue: z.core.$ZodIssue | undefined): { path: Path; message: string } {
  const path = (issue?.path ?? []) as Path;
  if (issue?.code !== "unrecognized_keys") return { path, message: issue?.message ?? "is invalid" };
  return { path: [...path, ...issue.keys.slice(0, 1)], message: "is not a known member" };
}

/** Where a value is, or where the nearest that holds it is, if it is missing. */
function offsetOf(document: Document.Parsed, path: Path): number | undefined {
  const node = path.length === 0 ? document.contents : document.getIn(path, true);
  const range = (node as { range?: readonly [number, ...number[]] | null } | undefined | null)
    ?.range;
  if (range !== undefined && range !== null) return range[0];
  return path.length === 0 ? undefined : offsetOf(document, path.slice(0, -1));
}

function invalid(fileName: string, line: number | undefined, what: string): TesseraError {
  const place = line === undefined ? fileName : `${fileName}:${line}`;
  return new TesseraError("misuse", "agent.config-invalid", `${place}: ${what}`, {
    subject: fileName,
    remedy: "see doc/configuration.md",
  });
}

const BYTES_MAX = 2 ** 20;

export async function readConfig(files: FileSystem, path: string): Promise<Config> {
  const text = Buffer.from(await files.readFile(path, BYTES_MAX)).toString("utf8");
  return parseConfig(text, path);
}

/** The text of a new `cloud.yaml`. */
export function renderConfig(config: z.input<typeof shape>): string {
  return stringify(config);
}
