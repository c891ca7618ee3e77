/** `tessera import`: a disk image becomes components and a machine. */
import { basename, resolve } from "node:path";
import type { Input, ProgressOf } from "#api";
import { TesseraError, parseSize } from "#core";
import { InvalidArgumentError, Option, type Command } from "commander";
import { renderImport } from "./render-import.ts";
import { act, leaf, type Bench } from "./session.ts";
import { readText } from "./texts.ts";
import { printable } from "./values.ts";

interface ImportOptions {
  readonly name?: string;
  readonly dryRun?: boolean;
  readonly format?: NonNullable<Input<"machine.import">["format"]>;
  readonly backing: readonly string[];
  readonly partition?: number;
  readonly disk?: string;
  readonly domain?: string;
  readonly kernel?: string;
  readonly cpus?: number;
  readonly memory?: number;
  readonly data?: number;
  readonly port: readonly Port[];
}

type Port = NonNullable<Input<"machine.import">["ports"]>[number];

const FORMATS = ["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"];

export function addImportCommand(root: Command, bench: Bench): void {
  const command = leaf(root, "import <image>", {
    summary: "make components and a machine of a disk image",
    examples: [
      "tessera import web-1.qcow2 --dry-run    (what would become of it)",
      "tessera import web-1.qcow2 --name web-1 --memory 1G --port http=80",
      "tessera import web-1.ova --name web-1",
      "tessera import web-1.qcow2 --domain web-1.xml --name web-1",
    ],
  })
    .option("--name <machine>", "the machine's name; needed unless with --dry-run")
    .option("--dry-run", "only tell what is in the image and what a migration would move")
    .addOption(new Option("--format <format>", "in place of what the image says").choices(FORMATS))
    .option("--backing <directory>", "allow files there that the image names", collect, [])
    .option("--partition <number>", "the one with the system", parseWhole)
    .option("--disk <name>", "of an OVA or a domain with several: the one with the system")
    .option("--domain <file>", "the machine's domain of libvirt (virsh dumpxml)")
    .option("--kernel <component>", "start with this kernel, not the image's")
    .option(
      "--cpus <number>",
      "processors; default what the OVA or the domain says, or 1",
      parseWhole,
    )
    .option("--memory <size>", "default what the OVA or the domain says, or 512M", parseSize)
    .option("--data <size>", "of the user data block; default the image's file systems", parseSize)
    .option(
      "--port <name=guest>",
      "forward a TCP port, NAME=GUEST or NAME=GUEST:HOST",
      addPort,
      [],
    );
  act<ImportOptions>(bench, command, async (session, [image = ""], options) => {
    const view = session.progress(renderProgress);
    const input = {
      ...inputOf(bench.surroundings.directory, image, options),
      ...(await domainOf(bench.surroundings.directory, options)),
    };
    const result = await session.call("machine.import", input, { progress: view.show });
    view.end();
    for (const remark of result.remarks ?? []) session.remark(`${printable(remark)}\n`);
    session.print(result, renderImport);
  });
}

const collect = (value: string, all: readonly string[]): string[] => [...all, value];

function parseWhole(text: string): number {
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("give a whole number");
}

function addPort(text: string, all: readonly Port[]): Port[] {
  const [, name, guest, host] = /^([a-z0-9-]{1,63})=(\d{1,5})(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (name === undefined || guest === undefined) {
    throw new InvalidArgumentError("write for instance http=80 or http=80:8080");
  }
  return [
    ...all,
    { name, guest: Number(guest), ...(host === undefined ? {} : { host: Number(host) }) },
  ];
}

/** The user's own file, so the user's own rights read it. */
async function domainOf(directory: string, { domain }: ImportOptions) {
  if (domain === undefined) return {};
  const text = await readText(resolve(directory, domain));
  return { domain: { fileName: basename(domain), text } };
}

function inputOf(
  directory: string,
  image: string,
  options: ImportOptions,
): Input<"machine.import"> {
  const { name, dryRun, format, partition, disk, kernel, cpus, memory, data } = options;
  if (name === undefined && dryRun !== true) {
    throw new TesseraError("misuse", "cli.usage", "the machine needs a name", {
      remedy: "give --name, or --dry-run to see what would become of the image",
    });
  }
  return {
    path: resolve(directory, image),
    backing: options.backing.map((path) => resolve(directory, path)),
    ports: options.port,
    ...(name === undefined ? {} : { name }),
    ...(dryRun === undefined ? {} : { dryRun }),
    ...(format === undefined ? {} : { format }),
    ...(partition === undefined ? {} : { partition }),
    ...(disk === undefined ? {} : { disk }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(cpus === undefined ? {} : { cpus }),
    ...(memory === undefined ? {} : { memoryBytes: memory }),
    ...(data === undefined ? {} : { dataBytes: data }),
  };
}

function renderProgress(
  { step, detail, done, total }: ProgressOf<"machine.import">,
  columns: number,
) {
  const figures = done === undefined || total === undefined ? "" : ` ${done} of ${total}`;
  const line = printable(`${step}:${figures} ${detail}`).replaceAll(/[\n\t]/g, " ");
  return [line.slice(0, Math.max(1, columns - 1))];
}
