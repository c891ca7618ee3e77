/** `tessera export`: a stopped machine becomes one disk for a cloud without Tessera. */
import { resolve } from "node:path";
import type { Input, Output, ProgressOf } from "#api";
import { formatBytes, parseSize } from "#core";
import { Option, type Command } from "commander";
import { plural, renderMembers } from "./render-table.ts";
import { act, leaf, type Bench } from "./session.ts";
import { printable } from "./values.ts";

interface ExportOptions {
  readonly format: Input<"machine.export">["format"];
  readonly output?: string;
  readonly size?: number;
  readonly dryRun?: boolean;
}

const FORMATS = ["qcow2", "vmdk", "vpc", "vhdx", "vdi", "raw", "ova"];

export function addExportCommand(root: Command, bench: Bench): void {
  const command = leaf(root, "export <machine>", {
    summary: "make one bootable disk of a stopped machine, for a cloud without Tessera",
    examples: [
      "tessera export web-1 --format ova --dry-run    (what would be written)",
      "tessera export web-1 --format qcow2 --output /srv/web-1.qcow2",
    ],
  })
    .addOption(
      new Option("--format <format>", "of the disk; vpc is VHD")
        .choices(FORMATS)
        .makeOptionMandatory(),
    )
    .option("--output <file>", "where nothing is; default MACHINE.FORMAT here")
    .option(
      "--size <size>",
      "of the disk; default the machine's files and the room of its user data block",
      parseSize,
    )
    .option("--dry-run", "only tell what would be written");
  act<ExportOptions>(bench, command, async (session, [machine = ""], options) => {
    const view = session.progress(renderProgress);
    const input = inputOf(bench.surroundings.directory, machine, options);
    const result = await session.call("machine.export", input, { progress: view.show });
    view.end();
    session.print(result, renderExport);
  });
}

function inputOf(
  directory: string,
  machine: string,
  { format, output, size, dryRun }: ExportOptions,
): Input<"machine.export"> {
  return {
    machine,
    format,
    ...(dryRun === true
      ? { dryRun }
      : { path: resolve(directory, output ?? `${machine}.${format}`) }),
    ...(size === undefined ? {} : { sizeBytes: size }),
  };
}

function renderProgress({ step, detail }: ProgressOf<"machine.export">, columns: number) {
  const line = printable(`${step}: ${detail}`).replaceAll(/[\n\t]/g, " ");
  return [line.slice(0, Math.max(1, columns - 1))];
}

type Exported = Output<"machine.export">;

export function renderExport({ survey, file, proof }: Exported): string {
  const kernel = survey.kernel === "own" ? "the distribution's file" : "made of the component's";
  return [
    renderMembers([
      ["disk", `${formatBytes(survey.diskBytes)}, starts by UEFI and by BIOS`],
      ["root", `ext4, ${formatBytes(survey.rootBytes)}, UUID ${survey.fileSystem}`],
      ["files", `${plural(survey.entries, "path")}, ${formatBytes(survey.contentBytes)}`],
      ["kernel", `${printable(survey.kernelRelease)}, ${kernel}`],
      ["drivers for", `${survey.controller}, ${survey.network}`],
      ...survey.added.map((path) => ["added", printable(`/${path}`)] as const),
      ...survey.changed.map((path) => ["changed", printable(`/${path}`)] as const),
      ...survey.leftOut.map((path) => ["left out", printable(`/${path}`)] as const),
    ]),
    ...survey.leftFstab.map((line) => `note: commented out in fstab: ${printable(line)}\n`),
    ...(proof === undefined ? [] : ["\n", renderProof(proof)]),
    file === undefined
      ? "nothing was written: a dry run\n"
      : `written: ${printable(file.path)}, ${formatBytes(file.sizeBytes)}, ${formatBytes(file.allocatedBytes)} allocated\n`,
  ].join("");
}

function renderProof(proof: NonNullable<Exported["proof"]>): string {
  return renderMembers([
    [
      "manifest of the machine",
      `${plural(proof.entries, "path")}, ${formatBytes(proof.bytes)}, ${proof.machineDigest}`,
    ],
    ["manifest exported", proof.exportedDigest],
    ["differences", "none"],
  ]);
}
