/** The features of a machine, from flags or from a file, as the text of an appliance file. */
import { basename, resolve } from "node:path";
import type { FileText } from "#api";
import { TesseraError } from "#core";
import type { Command } from "commander";
import { stringify } from "yaml";
import { readText } from "./texts.ts";

export interface FeatureFlags {
  readonly features?: string;
  readonly kernel?: string;
  readonly os?: string;
  readonly program: readonly string[];
  readonly cpus?: number;
  readonly memory?: string;
  readonly data?: string;
  readonly port: readonly string[];
  readonly serviceLevel: readonly string[];
}

const repeated = (value: string, all: readonly string[]): string[] => [...all, value];

export function withFeatures(command: Command): Command {
  return command
    .option("--features <file>", "an appliance file, instead of the flags below")
    .option("--kernel <name[@range]>", "the kernel, for instance kernel-cloud")
    .option("--os <name[@range]>", "the operating system, for instance debian-12@~12")
    .option("--program <name[@range]>", "a program, lowest first; may be repeated", repeated, [])
    .option("--cpus <n>", "virtual processors", parseCount)
    .option("--memory <size>", "memory, for instance 1G")
    .option("--data <size>", "size of the user data block, for instance 10G")
    .option("--port <name=guest[:host]>", "a port to reach it by; may be repeated", repeated, [])
    .option(
      "--service-level <key=value>",
      "downtimeMax, clouds, regions, priority or maySlowDown; may be repeated",
      repeated,
      [],
    );
}

/** Undefined where no feature is given. @throws `cli.usage` (misuse) */
export async function featuresOf(
  name: string,
  flags: FeatureFlags,
  directory: string,
): Promise<FileText | undefined> {
  const { features, kernel, os, program } = flags;
  const given = [kernel, os, ...program, flags.cpus, flags.memory, flags.data];
  const some = given.some((value) => value !== undefined) || flags.port.length > 0;
  if (features !== undefined) {
    if (some) throw usage("--features and flags for single features exclude each other");
    const path = resolve(directory, features);
    return { fileName: basename(path), text: await readText(path) };
  }
  if (!some) return undefined;
  if (kernel === undefined || os === undefined) {
    throw usage("a machine of features needs --kernel and --os");
  }
  return { fileName: "(flags)", text: stringify(appliance(name, { ...flags, kernel, os })) };
}

function appliance(name: string, flags: FeatureFlags): object {
  const { kernel, os, program, cpus, memory, data, port, serviceLevel } = flags;
  return {
    name,
    kernel,
    os,
    programs: program,
    resources: {
      ...(cpus === undefined ? {} : { cpus }),
      ...(memory === undefined ? {} : { memory }),
      ...(data === undefined ? {} : { data }),
      ports: port.map(portOf),
    },
    serviceLevel: Object.fromEntries(serviceLevel.map(levelOf)),
  };
}

function portOf(text: string): object {
  const [, name, guest, host] = /^([^=]+)=(\d+)(?::(\d+))?$/.exec(text) ?? [];
  if (name === undefined) throw usage(`--port ${text} is not NAME=GUEST or NAME=GUEST:HOST`);
  return { name, guest: Number(guest), ...(host === undefined ? {} : { host: Number(host) }) };
}

/** The agent judges the values; here they only get their types. */
function levelOf(text: string): [string, unknown] {
  const [, key = "", value = ""] = /^([A-Za-z]+)=(.+)$/.exec(text) ?? [];
  switch (key) {
    case "downtimeMax":
      return [key, value];
    case "clouds":
    case "regions":
      return [key, value.split(",")];
    case "priority":
      return [key, Number(value)];
    case "maySlowDown":
      return [key, value === "true" ? true : value === "false" ? false : value];
    default:
      throw usage(
        `--service-level ${text}: the keys are downtimeMax, clouds, regions, priority, maySlowDown`,
      );
  }
}

function parseCount(text: string): number {
  if (/^\d{1,3}$/.test(text)) return Number(text);
  throw usage(`"${text}" is not a number of processors`);
}

function usage(message: string): TesseraError {
  return new TesseraError("misuse", "cli.usage", message, { remedy: "see --help of the command" });
}
