import { createHash } from "node:crypto";
import { z } from "zod";
import { canonicalJson, isDigest, TesseraError, type Digest, type Json } from "#core";
import type { Lock, LockedPackage, LockedRecipe } from "./contract.ts";

const FORMAT = "tessera-lock/1";
/** Counts changes of this room that change what a recipe and a lock give. */
const RULES = 1;
const TEXT_BYTES_MAX = 4 * 2 ** 20;
const PACKAGES_MAX = 5000;

const digest = z.custom<Digest>(isDigest, "must be sha256: and 64 hexadecimal digits");
const word = (pattern: RegExp) => z.string().max(300).regex(pattern);

const lockedPackage = z.strictObject({
  name: word(/^[a-z0-9][a-z0-9.+-]+$/),
  version: word(/^[0-9A-Za-z.+:~-]+$/),
  architecture: word(/^[a-z0-9-]+$/),
  file: word(/^(?!\/)(?!.*(^|\/)\.\.?(\/|$))[\w.+~:/-]+\.deb$/),
  source: word(/^[a-z0-9][a-z0-9.+-]*$/),
  sizeBytes: z
    .int()
    .min(1)
    .max(2 ** 31),
  sha256: digest,
});

const schema = z.strictObject({
  format: z.literal(FORMAT),
  name: word(/^[a-z0-9][a-z0-9.+-]*$/),
  architecture: word(/^[a-z0-9]+$/),
  epoch_s: z
    .int()
    .min(0)
    .max(2 ** 33),
  base: digest.optional(),
  sources: z.record(z.string().max(100), word(/^(https?|file):\/\/[^\s[\]]+[^\s[\]/]$/)),
  packages: z.array(lockedPackage).min(1).max(PACKAGES_MAX),
});

function invalid(fileName: string, problem: string, cause?: unknown): TesseraError {
  return new TesseraError("misuse", "build.lock-invalid", `${fileName}: ${problem}`, {
    subject: fileName,
    remedy: "make the lock anew with: tessera component build --relock",
    cause,
  });
}

function decode(text: string, fileName: string): unknown {
  if (text.length > TEXT_BYTES_MAX) throw invalid(fileName, "is longer than 4 MiB");
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(fileName, "is not JSON", cause);
  }
}

/**
 * Reads a lock.
 *
 * @throws `build.lock-invalid` (misuse)
 */
export function readLock(text: string, fileName: string): Lock {
  const checked = schema.safeParse(decode(text, fileName));
  if (!checked.success) {
    const issue = checked.error.issues[0];
    throw invalid(fileName, `${issue?.path.map(String).join(".") ?? ""}: ${issue?.message ?? ""}`);
  }
  const { format: _, base, ...rest } = checked.data;
  for (const { name, source } of rest.packages) {
    if (rest.sources[source] === undefined) throw invalid(fileName, `${name}: no source ${source}`);
  }
  const packages = sortPackages(rest.packages);
  const twice = packages.find((entry, index) => entry.name === packages[index + 1]?.name);
  if (twice !== undefined) throw invalid(fileName, `${twice.name} is there twice`);
  return { ...rest, packages, ...(base === undefined ? {} : { base }) };
}

function orderKey(entry: LockedPackage): string {
  return `${entry.name} ${entry.architecture}`;
}

/** The order of a lock: by name, then architecture, by code unit. */
export function sortPackages(packages: readonly LockedPackage[]): LockedPackage[] {
  return packages.toSorted((a, b) => (orderKey(a) < orderKey(b) ? -1 : 1));
}

/** The one text of a lock, for people and version control: one package per line. */
export function writeLock(lock: Lock): string {
  const head: [string, Json][] = [
    ["format", FORMAT],
    ["name", lock.name],
    ["architecture", lock.architecture],
    ["epoch_s", lock.epoch_s],
    ...(lock.base === undefined ? [] : [["base", lock.base] satisfies [string, Json]]),
    ["sources", lock.sources],
  ];
  const lines = head.map(([key, value]) => `  ${JSON.stringify(key)}: ${canonicalJson(value)},`);
  const packages = sortPackages(lock.packages).map((entry) => `    ${packageLine(entry)}`);
  return `{\n${lines.join("\n")}\n  "packages": [\n${packages.join(",\n")}\n  ]\n}\n`;
}

function packageLine(entry: LockedPackage): string {
  const { name, version, architecture, source, file, sizeBytes, sha256 } = entry;
  return JSON.stringify({ name, version, architecture, source, file, sizeBytes, sha256 });
}

function digestOf(value: Json): Digest {
  return `sha256:${createHash("sha256").update(canonicalJson(value)).digest("hex")}`;
}

/** The digest by which a program's lock names the OS lock that it was resolved against. */
export function lockDigest(lock: Lock): Digest {
  return digestOf(JSON.parse(writeLock(lock)) as Json);
}

function plainPair({ recipe, lock }: LockedRecipe): Json {
  return JSON.parse(JSON.stringify({ recipe, lock: lockDigest(lock) })) as Json;
}

/**
 * What a component's description names as its origin: recipe, lock, those of its base, and the
 * number of our rules. Equal origins mean equal components, so what is held need not be built.
 */
export function originDigest(own: LockedRecipe, base?: LockedRecipe): Digest {
  const pairs = [own, ...(base === undefined ? [] : [base])].map(plainPair);
  return digestOf({ rules: RULES, pairs });
}
