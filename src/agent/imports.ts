/** From a disk image to a machine: components, appliance, user data block; or what they would be. */
import { isAbsolute, join } from "node:path";
import type { Context, Input, Output } from "#api";
import { resolveAppliance } from "#compose";
import { TesseraError, hexOf, reportOf, type Appliance, type Digest } from "#core";
import {
  makeComponents,
  makeMachineData,
  predictComponents,
  surveyImage,
  type ImportedPart,
  type ImportProof,
  type ImportRequest,
  type MadeComponent,
  type SurveyedImage,
} from "#import";
import type { Parts } from "./handlers/parts.ts";

type ImportInput = Input<"machine.import">;
type ImportResult = Output<"machine.import">;

const BLOCK_BYTES = 4096;
const DATA_BYTES_MIN = 64 * 2 ** 20;
const MEMORY_BYTES = 512 * 2 ** 20;
/** As `summaryOf` of the repository cuts ids. */
const HEAD_DIGITS = 16;
const OWNER = "import:";
const DIRECTORY = "import-";

interface Job {
  readonly parts: Parts;
  readonly input: ImportInput;
  readonly request: ImportRequest;
  readonly owner: string;
}

/**
 * Imports an image, or tells what importing it would do. Of a failure neither components that were
 * made for it nor files are left.
 *
 * @throws `agent.path-relative`, `agent.name-invalid`, `agent.machine-exists` (misuse), and what
 *   reading the image, making components and user data, and the proof throw
 */
export async function importMachine(
  parts: Parts,
  input: ImportInput,
  { progress, signal }: Context<"machine.import">,
): Promise<ImportResult> {
  const { world, store, layout, machines } = parts;
  checkPaths(input);
  if (input.dryRun !== true) await machines.requireName(input.name ?? "");
  const kernel = input.kernel === undefined ? undefined : await kernelOf(parts, input.kernel);
  const id = world.random.uuid();
  const directory = join(layout.work, `${DIRECTORY}${id}`);
  await world.files.makeDirectory(directory, 0o700);
  const request: ImportRequest = {
    path: input.path,
    backing: input.backing ?? [],
    directory,
    progress,
    signal,
    ...(input.format === undefined ? {} : { format: input.format }),
    ...(input.disk === undefined ? {} : { disk: input.disk }),
    ...(input.domain === undefined ? {} : { domain: input.domain }),
    ...(input.partition === undefined ? {} : { partition: input.partition }),
    ...(kernel === undefined ? {} : { kernel }),
  };
  const job = { parts, input, request, owner: `${OWNER}${id}` };
  try {
    const image = await surveyImage(world, store, request);
    try {
      return input.dryRun === true ? await tell(job, image) : await make(job, image);
    } finally {
      await image.opened.close();
    }
  } finally {
    await world.files.removeTree(directory);
  }
}

function checkPaths({ path, backing = [] }: ImportInput): void {
  const wrong = [path, ...backing].find((item) => !isAbsolute(item));
  if (wrong === undefined) return;
  throw new TesseraError("misuse", "agent.path-relative", `${wrong} is not absolute`, {
    subject: wrong,
    remedy: "give absolute paths, on the agent's host",
  });
}

async function kernelOf({ store }: Parts, text: string): Promise<Digest> {
  const name = text.includes("/") || text.includes(":") ? text : `kernel/${text}`;
  return (await store.resolve(name)).id;
}

async function tell(job: Job, image: SurveyedImage): Promise<ImportResult> {
  const { parts, request } = job;
  const imported = await predictComponents(parts.store, image, request);
  const survey = { ...image.survey, parts: imported };
  return { survey, moves: movesOf(parts, image, imported, image.survey.classes.userData.bytes) };
}

function movesOf(
  { transport }: Parts,
  { survey }: SurveyedImage,
  imported: readonly ImportedPart[],
  userDataBytes: number,
): ImportResult["moves"] {
  const toMove = (isHeld: (part: ImportedPart) => boolean): number =>
    imported.reduce((sum, part) => sum + (isHeld(part) ? 0 : part.bytes), userDataBytes);
  const clouds = transport.peers().flatMap(({ cloud, offer }) => {
    if (offer === undefined) return [];
    const heads = new Set(offer.repository.heads);
    const isHeld = ({ id }: ImportedPart): boolean => heads.has(hexOf(id).slice(0, HEAD_DIGITS));
    return [{ cloud, held: imported.filter(isHeld).length, bytes: toMove(isHeld) }];
  });
  return {
    imageBytes: survey.allocatedBytes,
    worstBytes: toMove(() => false),
    bestBytes: userDataBytes,
    clouds,
  };
}

async function make(job: Job, image: SurveyedImage): Promise<ImportResult> {
  const { parts, request, owner } = job;
  const { store } = parts;
  const made: MadeComponent[] = [];
  try {
    await makeComponents(store, image, request, owner, made);
    const result = await makeMachine(job, image, made);
    await store.unpin(owner);
    return result;
  } catch (cause) {
    await store.unpin(owner);
    await removeMade(parts, made);
    throw cause;
  }
}

/** What others have begun to use meanwhile stays. */
async function removeMade({ store, world }: Parts, made: readonly MadeComponent[]): Promise<void> {
  for (const { component, part } of made) {
    if (part.held) continue;
    await store.remove(component.id).catch((error: unknown) => {
      world.log.log("warn", "a component of a failed import stays", { ...reportOf(error) });
    });
  }
}

async function applianceOf(
  { parts, input, request }: Job,
  image: SurveyedImage,
  made: readonly MadeComponent[],
): Promise<Appliance> {
  const idsOf = (kind: string): Digest[] =>
    made.filter(({ part }) => part.kind === kind).map(({ component }) => component.id);
  const { ports = [] } = input;
  const { description } = image.survey;
  const cpus = input.cpus ?? description?.cpus ?? 1;
  const memoryBytes = input.memoryBytes ?? description?.memoryBytes ?? MEMORY_BYTES;
  const mounted = image.survey.volumes.filter(({ mountedAt }) => mountedAt !== undefined);
  const sizeBytes = mounted.reduce((sum, volume) => sum + volume.sizeBytes, 0);
  const whole = Math.ceil(Math.max(sizeBytes, DATA_BYTES_MIN) / BLOCK_BYTES) * BLOCK_BYTES;
  const recipe = {
    name: input.name ?? "",
    kernel: request.kernel ?? idsOf("kernel")[0] ?? "",
    os: idsOf("os")[0] ?? "",
    programs: idsOf("program"),
    resources: { cpus, memoryBytes, dataBytes: input.dataBytes ?? whole, ports },
    serviceLevel: { clouds: [], regions: [], priority: 50, maySlowDown: true },
  };
  return await resolveAppliance(recipe, parts.store);
}

async function makeMachine(
  job: Job,
  image: SurveyedImage,
  made: readonly MadeComponent[],
): Promise<ImportResult> {
  const { parts, input, request } = job;
  const { world, machines } = parts;
  const appliance = await applianceOf(job, image, made);
  const disks = await machines.composed(appliance);
  const { fine, survey } = image;
  let proof: ImportProof | undefined;
  let dataBytes = 0;
  const machine = await machines.createWith(input.name ?? "", appliance, async (uuid, dataPath) => {
    proof = await makeMachineData(world, {
      uuid,
      fine,
      disks,
      dataPath,
      sizeBytes: appliance.resources.dataBytes,
      withoutFstab: survey.leftFstab.length > 0,
      foreignKernel: request.kernel !== undefined,
      progress: request.progress,
    });
    dataBytes = (await world.files.status(dataPath))?.allocatedBytes ?? 0;
  });
  const imported = made.map(({ part }) => part);
  return {
    survey: { ...survey, parts: imported },
    moves: movesOf(parts, image, imported, dataBytes),
    machine,
    ...(proof === undefined ? {} : { proof }),
  };
}

/** What imports left that an earlier agent did not end: their files and their pins. */
export async function removeImportLeftovers({
  world,
  store,
  layout,
}: Pick<Parts, "world" | "store" | "layout">): Promise<void> {
  for (const name of await world.files.list(layout.work)) {
    if (name.startsWith(DIRECTORY)) await world.files.removeTree(join(layout.work, name));
  }
  for (const owner of (await store.pins()).keys()) {
    if (owner.startsWith(OWNER)) await store.unpin(owner);
  }
}
