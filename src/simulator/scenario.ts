/** Scenario files: from YAML text to a validated scenario, with every fault at its line. */
import { TesseraError } from "#core";
import { LineCounter, isMap, isPair, isScalar, parseDocument, visit } from "yaml";
import type { Document, Node } from "yaml";
import { debianComponents } from "./catalogue.ts";
import type { CatalogueSpec, CloudGroup, NetworkSpec, PolicySpec, Scenario } from "./contract.ts";
import { linkMatrix } from "./links.ts";
import { checkRoom } from "./machines.ts";
import { checkMemory } from "./memory.ts";
import { RandomStream } from "./random.ts";
import { crossFaults, nameOfPolicy, type FieldFault } from "./scenario-names.ts";
import { scenarioSchema, type ScenarioFile } from "./scenario-schema.ts";

const TEXT_LENGTH_MAX = 4 * 2 ** 20;
const SAMPLES = 100;

type Path = readonly PropertyKey[];

interface Source {
  readonly fileName: string;
  readonly document: Document;
  readonly lines: LineCounter;
}

/**
 * Decodes and validates a scenario file (doc/simulator.md).
 *
 * @param seed in place of the file's
 * @throws `simulator.scenario-invalid` (misuse): the message names file, line, column, field and
 *   what is allowed there; `simulator.memory-exceeded` (misuse)
 */
export function parseScenario(text: string, fileName: string, seed?: number): Scenario {
  const source = decode(text, fileName);
  refuseAliases(source);
  const result = scenarioSchema.safeParse(source.document.toJS());
  if (!result.success) throw invalid(source, result.error.issues.flatMap(faultsOf));
  const faults = crossFaults(result.data);
  if (faults.length > 0) throw invalid(source, faults);
  const scenario = scenarioOf(result.data, seed ?? result.data.seed);
  checkRoom(scenario);
  for (const policy of scenario.policies) checkMemory(scenario, policy);
  return scenario;
}

function decode(text: string, fileName: string): Source {
  if (text.length > TEXT_LENGTH_MAX) {
    const message = `${fileName} is longer than ${TEXT_LENGTH_MAX} characters`;
    throw new TesseraError("misuse", "simulator.scenario-invalid", message, { subject: fileName });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const fault = document.errors[0];
  if (fault === undefined) return { fileName, document, lines };
  throw invalidAt({ fileName, document, lines }, fault.pos[0], "(syntax)", fault.message);
}

/** Nested aliases can unfold without bound. */
function refuseAliases(source: Source): void {
  visit(source.document, {
    Alias: (_key, { source: alias, range }) => {
      const message = "YAML aliases are not allowed; write the value out";
      throw invalidAt(source, range?.[0] ?? 0, `*${alias}`, message);
    },
  });
}

interface Issue {
  readonly code?: string | undefined;
  readonly path: Path;
  readonly message: string;
  readonly keys?: readonly string[];
}

/** An unknown field is at its own place, not at the map that holds it. */
function faultsOf({ code, path, message, keys }: Issue): FieldFault[] {
  if (code !== "unrecognized_keys") return [{ path, message }];
  return (keys ?? []).map((key) => ({ path: [...path, key], message }));
}

function invalid(source: Source, faults: readonly FieldFault[]): TesseraError {
  const located = faults
    .map((fault) => ({ ...fault, offset: offsetOf(source.document, fault.path) }))
    .toSorted((a, b) => a.offset - b.offset);
  const first = located[0] ?? { path: [], message: "is not a scenario", offset: 0 };
  const more = located.length > 1 ? ` (and ${located.length - 1} more)` : "";
  return invalidAt(source, first.offset, fieldName(first.path), first.message + more);
}

function invalidAt(
  { fileName, lines }: Source,
  offset: number,
  field: string,
  message: string,
): TesseraError {
  const { line, col } = lines.linePos(offset);
  const place = `${fileName}:${Math.max(1, line)}:${Math.max(1, col)}`;
  const text = `${place}: ${field}: ${message}`;
  return new TesseraError("misuse", "simulator.scenario-invalid", text, {
    subject: fileName,
    remedy: `correct line ${Math.max(1, line)} of ${fileName}; doc/simulator.md describes the fields`,
  });
}

/** `network.rates[0][1]` */
function fieldName(path: Path): string {
  const text = path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("");
  return text.replace(/^\./, "") || "(file)";
}

/** Where the field begins; for a missing one, where the map that lacks it begins. */
function offsetOf(document: Document, path: Path): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const [depth, part] of path.entries()) {
    const pair = isMap(node)
      ? node.items.find((item) => isPair(item) && keyOf(item.key) === String(part))
      : undefined;
    offset = startOf(pair?.key) ?? offset;
    node = document.getIn(path.slice(0, depth + 1), true);
    if (pair === undefined) offset = startOf(node) ?? offset;
  }
  return offset;
}

function keyOf(key: unknown): string {
  return String(isScalar(key) ? key.value : key);
}

function startOf(node: unknown): number | undefined {
  return (node as Partial<Node> | null | undefined)?.range?.[0];
}

function scenarioOf(file: ScenarioFile, seed: number): Scenario {
  const { name, duration, sample, machines, migrations } = file;
  const { userData, load, lifetime, memory, writes, stop, compose, start, boot } = machines;
  const { dirty, downtimeMax } = machines;
  const { changeEvery, ...level } = load;
  const phases = { stop_s: stop, compose_s: compose, start_s: start, boot_s: boot };
  const named = (machines.named ?? []).map(({ userData: userDataBytes, ...machine }) => {
    return { ...machine, userDataBytes };
  });
  return {
    name,
    seed,
    duration_s: duration,
    sample_s: sample ?? duration / SAMPLES,
    memoryMaxBytes: file.memory,
    network: networkOf(file, seed),
    catalogue: catalogueOf(file),
    clouds: file.clouds.map(cloudOf),
    machines: {
      named,
      count: machines.count,
      userDataMedianBytes: userData.median,
      userDataSigma: userData.sigma,
      userDataRatio: userData.ratio,
      writes_Bps: writes,
      cpus: machines.cpus,
      memoryBytes: memory,
      dirty: {
        median_Bps: dirty.median,
        sigma: dirty.sigma,
        ...(dirty.within === undefined ? {} : { withinBytes: dirty.within }),
      },
      ...(downtimeMax === undefined ? {} : { downtimeMax_s: downtimeMax }),
      ...(lifetime === undefined ? {} : { lifetime_s: lifetime }),
      load: { ...level, ...(changeEvery === undefined ? {} : { changeEvery_s: changeEvery }) },
      ...phases,
    },
    migrations: {
      named: (migrations.named ?? []).map(({ at, ...rest }) => ({ ...rest, at_s: at })),
      count: migrations.count,
      returns: migrations.returns,
    },
    policies: file.policies.map(policyOf),
  };
}

function networkOf({ network, clouds }: ScenarioFile, seed: number): NetworkSpec {
  const { links, rates, roundTrips, roundTrip, rampUp } = network;
  const regions = network.regions ?? [...new Set(clouds.map(({ region, name }) => region ?? name))];
  const common = { regions, roundTrip_s: roundTrip, rampUp };
  if (links === undefined) {
    return { ...common, pairRates: rates ?? [], pairRoundTrips_s: roundTrips ?? [] };
  }
  const random = new RandomStream(seed, 3);
  return { ...common, ...linkMatrix(links, regions.length, () => random.fraction()) };
}

function catalogueOf({ catalogue }: ScenarioFile): CatalogueSpec {
  const { programs, releaseEvery, appliances, programsMean, zipf, similarity } = catalogue;
  const components = (catalogue.components ?? []).map(({ size, os, weight, ...rest }) => ({
    ...rest,
    sizeBytes: size,
    ...(os === undefined ? {} : { os }),
    ...(weight === undefined ? {} : { weight }),
  }));
  return {
    components: components.length > 0 ? components : debianComponents(programs),
    named: catalogue.named ?? [],
    appliances,
    programsMean,
    zipf,
    similarity,
    ...(releaseEvery === undefined ? {} : { releaseEvery_s: releaseEvery }),
  };
}

function cloudOf(file: ScenarioFile["clouds"][number]): CloudGroup {
  const { region, uplink, downlink, memory, repository, joins, leaves, failEvery, repair } = file;
  const { name, count, cpus, egressPricePerGB, holds } = file;
  return {
    name,
    count,
    cpus,
    egressPricePerGB,
    holds,
    region: region ?? name,
    uplink_bps: uplink,
    downlink_bps: downlink ?? uplink,
    memoryBytes: memory,
    repository: { policy: repository.policy, capacityBytes: repository.capacity ?? 0 },
    joins_s: joins,
    ...(leaves === undefined ? {} : { leaves_s: leaves }),
    ...(failEvery === undefined ? {} : { failEvery_s: failEvery }),
    repair_s: repair,
  };
}

function policyOf(file: ScenarioFile["policies"][number]): PolicySpec {
  const { transfer, hot, placement, candidates, round } = file;
  const memory = hot === undefined ? {} : { hot };
  return { name: nameOfPolicy(file), transfer, ...memory, placement, candidates, round_s: round };
}
