/** `tessera appliance …` and `tessera machine …`. */
import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import type { FileText, Input } from "#api";
import { TesseraError } from "#core";
import type { Command } from "commander";
import {
  renderAppliance,
  renderAppliances,
  renderCheck,
  renderMachine,
  renderMachines,
} from "./render-lists.ts";
import { featuresOf, withFeatures, type FeatureFlags } from "./features.ts";
import { renderSelection } from "./render-selection.ts";
import { act, leaf, type Bench, type Session } from "./session.ts";
import { readBytes, readText } from "./texts.ts";
import { parseDuration, printable } from "./values.ts";

export function addApplianceCommands(root: Command, bench: Bench): void {
  const appliance = root
    .command("appliance")
    .description("appliances: what a machine is made of and needs");
  const check = leaf(appliance, "check <file>", {
    summary: "check an appliance file and its constraints; exit code 3 when it does not fit",
    examples: ["tessera appliance check examples/appliances/web.yaml"],
  });
  act(bench, check, async (session, [file = ""]) => {
    const result = await session.call("appliance.check", await readAppliance(bench, file));
    session.print(result, renderCheck);
    return result.fits ? 0 : 3;
  });
  const add = leaf(appliance, "add <file>", {
    summary: "keep an appliance, so that machines can be made of it",
    examples: ["tessera appliance add examples/appliances/web.yaml"],
  });
  act(bench, add, async (session, [file = ""]) => {
    const result = await session.call("appliance.add", await readAppliance(bench, file));
    session.print(result, renderAppliance);
  });
  const list = leaf(appliance, "ls", {
    summary: "the appliances kept here",
    examples: ["tessera appliance ls"],
  });
  act(bench, list, async (session) => {
    const result = await session.call("appliance.list", {});
    session.print(result, ({ appliances }) => renderAppliances(appliances));
  });
  const show = leaf(appliance, "show <appliance>", {
    summary: "one appliance, by name or digest",
    examples: ["tessera appliance show web"],
  });
  act(bench, show, async (session, [name = ""]) => {
    session.print(await session.call("appliance.show", { appliance: name }), renderAppliance);
  });
  const remove = leaf(appliance, "rm <appliance>", {
    summary: "remove an appliance; its machines keep their own copy of it",
    examples: ["tessera appliance rm web"],
  });
  act(bench, remove, async (session, [name = ""]) => {
    const result = await session.call("appliance.remove", { appliance: name });
    session.print(result, ({ removed }) => `removed ${removed}\n`);
  });
}

async function readAppliance(bench: Bench, file: string): Promise<Input<"appliance.check">> {
  const path = resolve(bench.surroundings.directory, file);
  return { fileName: basename(path), text: await readText(path) };
}

export function addMachineCommands(root: Command, bench: Bench): void {
  const machine = root.command("machine").description("machines of this cloud");
  addCreate(machine, bench);
  addPower(machine, bench);
  const list = leaf(machine, "ls", {
    summary: "the machines of this cloud",
    examples: ["tessera machine ls", "tessera machine ls --json"],
  });
  act(bench, list, async (session) => {
    const result = await session.call("machine.list", {});
    session.print(result, ({ machines }) => renderMachines(machines));
  });
  const show = leaf(machine, "show <machine>", {
    summary: "one machine, by name or UUID",
    examples: ["tessera machine show web-1"],
  });
  act(bench, show, async (session, [name = ""]) => {
    session.print(await session.call("machine.show", { machine: name }), renderMachine);
  });
  const remove = leaf(machine, "rm <machine>", {
    summary: "remove a stopped machine and its user data block",
    examples: ["tessera machine rm web-1"],
  });
  act(bench, remove, async (session, [name = ""]) => {
    const result = await session.call("machine.remove", { machine: name });
    session.print(result, ({ removed }) => `removed ${removed}\n`);
  });
  addConsole(machine, bench);
}

interface CreateOptions extends FeatureFlags, CloudInitFlags {
  readonly appliance?: string;
  readonly dryRun?: boolean;
  readonly file: readonly string[];
  readonly start?: boolean;
}

/** The agent takes 64 MiB of request; base64 makes 4 of 3. */
const FILES_BYTES_MAX = 44 * 2 ** 20;

function addCreate(machine: Command, bench: Bench): void {
  const create = leaf(machine, "create <name>", {
    summary: "make a machine of an appliance or of features, with a fresh user data block",
    examples: [
      "tessera machine create web-1 --kernel kernel-cloud --os debian-12 --program 'nginx@>=1.22' --cpus 2 --memory 1G --data 10G --dry-run",
      "tessera machine create web-1 --appliance web --start",
      "tessera machine create web-1 --appliance web --file /srv/index.html=./index.html",
      "tessera machine create web-1 --appliance web --user-data ./user-data.yaml --start",
    ],
  })
    .option("--appliance <appliance>", "name or digest of an appliance that is kept here")
    .option("--dry-run", "with features: only say what is held, what would be fetched, from whom")
    .option(
      "--file <guest=host>",
      "put a file into the machine, with its permissions; may be repeated",
      (value: string, all: readonly string[]) => [...all, value],
      [],
    )
    .option("--user-data <file>", "cloud-init's user data: #cloud-config or a script")
    .option("--meta-data <file>", "with it: NoCloud's meta data")
    .option("--network-config <file>", "with it: network configuration, version 1 or 2")
    .option("--start", "start it at once");
  withFeatures(create);
  act<CreateOptions>(bench, create, async (session, [name = ""], options) => {
    const files = await Promise.all(options.file.map((value) => readInstanceFile(bench, value)));
    const sizeBytes = files.reduce((sum, file) => sum + file.contentBase64.length * 0.75, 0);
    if (sizeBytes > FILES_BYTES_MAX) throw tooMuch();
    const what = await ofWhat(bench, name, options);
    const cloudInit = await readCloudInit(bench, options);
    if ("features" in what) {
      const selection = await session.call("machine.select", what);
      if (options.dryRun === true) {
        session.print(selection, renderSelection);
        return selection.fits ? 0 : 3;
      }
      session.remark(renderSelection(selection));
    }
    let made = await session.call("machine.create", { name, files, ...what, ...cloudInit });
    if (options.start === true) made = await session.call("machine.start", { machine: made.uuid });
    session.print(made, renderMachine);
    return 0;
  });
}

interface CloudInitFlags {
  readonly userData?: string;
  readonly metaData?: string;
  readonly networkConfig?: string;
}

async function readCloudInit(
  { surroundings }: Bench,
  flags: CloudInitFlags,
): Promise<Pick<Input<"machine.create">, "cloudInit">> {
  const { userData, metaData, networkConfig } = flags;
  const given = { userData, metaData, networkConfig };
  const texts = await Promise.all(
    Object.entries(given).map(async ([key, file]) =>
      file === undefined ? [] : [[key, await readText(resolve(surroundings.directory, file))]],
    ),
  );
  const all = texts.flat();
  return all.length === 0 ? {} : { cloudInit: Object.fromEntries(all) };
}

type MadeOf = { readonly appliance: string } | { readonly features: FileText };

async function ofWhat(bench: Bench, name: string, options: CreateOptions): Promise<MadeOf> {
  const features = await featuresOf(name, options, bench.surroundings.directory);
  const { appliance } = options;
  if (features !== undefined && appliance === undefined) return { features };
  if (features === undefined && appliance !== undefined && options.dryRun !== true) {
    return { appliance };
  }
  throw new TesseraError(
    "misuse",
    "cli.usage",
    "a machine is made of an appliance or of features",
    {
      remedy:
        "give --appliance, or --features FILE, or --kernel and --os; --dry-run is for features",
    },
  );
}

type InstanceFiles = NonNullable<Input<"machine.create">["files"]>;

async function readInstanceFile(bench: Bench, value: string): Promise<InstanceFiles[number]> {
  const [, guest, host] = /^(\/[^=]+)=(.+)$/s.exec(value) ?? [];
  if (guest === undefined || host === undefined) {
    throw new TesseraError("misuse", "cli.usage", `--file ${value} is not GUEST=HOST`, {
      remedy: "write for instance --file /srv/index.html=./index.html",
    });
  }
  const path = resolve(bench.surroundings.directory, host);
  const content = await readBytes(path, FILES_BYTES_MAX);
  const { mode } = await stat(path);
  return { path: guest, contentBase64: content.toString("base64"), mode: mode & 0o777 };
}

function tooMuch(): TesseraError {
  return new TesseraError("misuse", "cli.files-too-large", "the files are too large together", {
    remedy: `put at most ${FILES_BYTES_MAX} bytes into a machine this way; make a component of more`,
  });
}

interface PowerOptions {
  readonly timeout?: number;
  readonly force?: boolean;
}

const STOPS = {
  graceful: "stopped",
  forced: "stopped by force",
  "was-stopped": "was stopped already",
} as const;

function addPower(machine: Command, bench: Bench): void {
  const timeout = ["--timeout <duration>", "longest wait, for instance 90s"] as const;
  const start = leaf(machine, "start <machine>", {
    summary: "start a machine and wait until its guest is ready",
    examples: ["tessera machine start web-1", "tessera machine start web-1 --timeout 5min"],
  }).option(...timeout, parseDuration);
  act<PowerOptions>(bench, start, async (session, [name = ""], options) => {
    const result = await session.call("machine.start", { machine: name, ...wait(options) });
    session.print(result, renderMachine);
  });
  const stop = leaf(machine, "stop <machine>", {
    summary: "ask the guest to shut down; by force after the time-out",
    examples: ["tessera machine stop web-1 --timeout 60s", "tessera machine stop web-1 --force"],
  })
    .option(...timeout, parseDuration)
    .option("--force", "do not ask the guest; like pulling the plug");
  act<PowerOptions>(bench, stop, async (session, [name = ""], options) => {
    const force = options.force === true ? { force: true } : {};
    const input = { machine: name, ...wait(options), ...force };
    const result = await session.call("machine.stop", input);
    session.print(result, (value) => `${value.machine.name} ${STOPS[value.stop]}\n`);
  });
}

function wait({ timeout }: PowerOptions): { timeout_ms?: number } {
  return timeout === undefined ? {} : { timeout_ms: timeout };
}

const FOLLOW_INTERVAL_MS = 500;

function addConsole(machine: Command, bench: Bench): void {
  const console = leaf(machine, "console <machine>", {
    summary: "print the machine's console log",
    examples: ["tessera machine console web-1", "tessera machine console web-1 --follow"],
  })
    .option("--offset <bytes>", "begin here", parseOffset)
    .option("--follow", "go on as the log grows, until interrupted");
  act<{ offset?: number; follow?: boolean }>(bench, console, async (session, [name = ""], o) => {
    await copyConsole(session, name, o.offset ?? 0, o.follow === true);
  });
}

function parseOffset(text: string): number {
  const offset = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(offset)) return offset;
  throw new TesseraError("misuse", "cli.usage", `"${text}" is not a number of bytes`);
}

/** A guest must not command the user's terminal: there, control characters are left out. */
async function copyConsole(
  session: Session,
  machine: string,
  from: number,
  follow: boolean,
): Promise<void> {
  const { surroundings } = session;
  const { output, interrupted } = surroundings;
  const clean = output.isTerminal ? printable : (text: string): string => text;
  let offset = from;
  for (;;) {
    const chunk = await session.call("machine.console", { machine, offset });
    if (session.json) output.write(`${JSON.stringify(chunk)}\n`);
    else output.write(clean(chunk.text));
    const advanced = chunk.offset > offset;
    offset = chunk.offset;
    if (advanced && offset < chunk.sizeBytes) continue;
    if (!follow) return;
    await surroundings.sleep(FOLLOW_INTERVAL_MS, interrupted);
  }
}
