/** An image imported into a repository of its own, up to the disks of a machine. */
import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { compose, resolveAppliance, withUserData } from "#compose";
import type { Digest, World } from "#core";
import type { MachineSpecification } from "#hypervisor";
import {
  makeComponents,
  makeMachineData,
  surveyImage,
  type ImportProof,
  type ImportedPart,
  type ImportRequest,
  type MadeComponent,
  type SurveyedImage,
} from "#import";
import { openRepository, type ComponentStore } from "#repository";

/** A repository that holds one kernel component, for its static busybox. */
export async function repositoryWith(
  world: World,
  path: string,
  from: ComponentStore,
  kernel: Digest,
) {
  const store = await openRepository(world, path);
  const component = await from.resolve(kernel);
  const image = await from.openBlob(kernel);
  await store.add({ description: component.description, fragments: [], image });
  await image.close();
  return store;
}

export interface ImportedDisks {
  readonly specification: MachineSpecification;
  readonly survey: SurveyedImage["survey"];
  readonly parts: readonly ImportedPart[];
  readonly proof: ImportProof;
}

const GUEST_PORT = 6379;

export async function importedDisks(
  world: World,
  store: ComponentStore,
  path: string,
  directory: string,
): Promise<ImportedDisks> {
  for (const name of ["work", "machine"]) await mkdir(join(directory, name), { recursive: true });
  const request: ImportRequest = {
    path,
    backing: [],
    directory: join(directory, "work"),
    progress: () => undefined,
    signal: new AbortController().signal,
  };
  const image = await surveyImage(world, store, request);
  try {
    const made: MadeComponent[] = [];
    await makeComponents(store, image, request, "import:test", made);
    const [kernel = "", os = "", ...programs] = made.map(({ component }) => component.id);
    const uuid = randomUUID();
    const dataPath = join(directory, "data.raw");
    const sizeBytes = 2 ** 30;
    const ports = [{ name: "redis", guest: GUEST_PORT }];
    const resources = { cpus: 2, memoryBytes: 2 ** 29, dataBytes: sizeBytes, ports };
    const serviceLevel = { clouds: [], regions: [], priority: 50, maySlowDown: true };
    const recipe = { name: "imported", kernel, os, programs, resources, serviceLevel };
    const appliance = await resolveAppliance(recipe, store);
    const disks = await compose(world, store, appliance, join(directory, "composed"));
    const { fine, survey } = image;
    const withoutFstab = survey.leftFstab.length > 0;
    const machine = { uuid, fine, disks, dataPath, sizeBytes, withoutFstab, foreignKernel: false };
    const proof = await makeMachineData(world, { ...machine, progress: request.progress });
    const specification: MachineSpecification = {
      uuid,
      name: "imported",
      cpus: 2,
      memoryBytes: resources.memoryBytes,
      disks: withUserData(disks, uuid),
      dataPath,
      ports,
      directory: join(directory, "machine"),
    };
    return { specification, survey, parts: made.map(({ part }) => part), proof };
  } finally {
    await image.opened.close();
  }
}
