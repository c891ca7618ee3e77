/** From a stopped machine of this cloud to one disk that boots without Tessera. */
import { isAbsolute, join } from "node:path";
import type { Context, Input, Output } from "#api";
import { TesseraError, type Machine } from "#core";
import { planExport } from "#export";
import type { Parts } from "./handlers/parts.ts";

type ExportInput = Input<"machine.export">;
type ExportResult = Output<"machine.export">;

const DIRECTORY = "export-";

/**
 * Exports a machine, or tells what its disk would be. The machine cannot be started meanwhile. Of a
 * failure nothing is left.
 *
 * @throws `agent.path-relative`, `agent.machine-running`, `agent.machine-gone`,
 *   `agent.machine-migrating`, `export.output-missing`, `export.output-exists` (misuse), and what
 *   planning and writing throw
 */
export async function exportMachine(
  parts: Parts,
  input: ExportInput,
  context: Context<"machine.export">,
): Promise<ExportResult> {
  const { world, machines } = parts;
  if (input.dryRun !== true) await checkPath(world, input.path);
  const { uuid } = (await machines.store.resolve(input.machine)).machine;
  return await machines.whileStopped(uuid, (machine) => make(parts, input, machine, context));
}

async function checkPath({ files }: Parts["world"], path?: string): Promise<void> {
  if (path === undefined) {
    const message = "an export needs a place to write to";
    throw new TesseraError("misuse", "export.output-missing", message, {
      remedy: "give a path, or ask for a dry run",
    });
  }
  if (!isAbsolute(path)) {
    throw new TesseraError("misuse", "agent.path-relative", `${path} is not absolute`, {
      subject: path,
      remedy: "give absolute paths, on the agent's host",
    });
  }
  if ((await files.status(path)) === undefined) return;
  throw new TesseraError("misuse", "export.output-exists", `${path} is there already`, {
    subject: path,
    remedy: "remove it, or choose another path with --output",
  });
}

async function make(
  parts: Parts,
  { format, path, sizeBytes, dryRun }: ExportInput,
  machine: Machine,
  { progress, signal }: Context<"machine.export">,
): Promise<ExportResult> {
  const { world, layout, machines, store } = parts;
  const { uuid, name, appliance } = machine;
  const { cpus, memoryBytes } = appliance.resources;
  const disks = await machines.composed(appliance);
  const { architecture, kernelRelease = "" } = (await store.resolve(appliance.kernel.id))
    .description;
  const data = await machines.openData(uuid);
  const directory = join(layout.work, `${DIRECTORY}${world.random.uuid()}`);
  try {
    const subject = { uuid, name, cpus, memoryBytes, disks, kernelRelease, architecture, data };
    const size = sizeBytes === undefined ? {} : { sizeBytes };
    const request = { machine: subject, format, progress, signal, ...size };
    return await planExport(world, request, async ({ survey, write }) => {
      if (dryRun === true || path === undefined) return { survey };
      await world.files.makeDirectory(directory, 0o700);
      return { survey, ...(await write({ path, directory })) };
    });
  } finally {
    await data.close();
    await world.files.removeTree(directory);
  }
}

/** What exports left that an earlier agent did not end; what lies beside their outputs stays. */
export async function removeExportLeftovers({
  world,
  layout,
}: Pick<Parts, "world" | "layout">): Promise<void> {
  for (const name of await world.files.list(layout.work)) {
    if (name.startsWith(DIRECTORY)) await world.files.removeTree(join(layout.work, name));
  }
}
