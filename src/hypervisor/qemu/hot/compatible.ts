import type { HotCapabilities, HotDescription, HotVerdict } from "../../contract.ts";
import { isTrapped } from "../arguments.ts";

/** Without these, a failure at the destination is not seen, or both ends hold the disks. */
const NEEDED = ["events", "return-path", "late-block-activate", "pause-before-switchover"];
/** Formats whose nodes do not block a migration; VMDK, VHD, VDI and others do (QEMU, block/). */
const MOVABLE_FORMATS = ["raw", "qcow2", "nbd"];
/** The first QEMU whose TCG resets its TLB for memory of every size. */
const TCG_MENDED = "9.0";

/** Intel's models, each with all that matters of the one before (QEMU, docs/system/cpu-models-x86). */
const LADDER: readonly string[] =
  "qemu64 Conroe Penryn Nehalem Westmere SandyBridge IvyBridge Haswell Broadwell Skylake-Server Cascadelake-Server Icelake-Server SapphireRapids".split(
    " ",
  );

/**
 * Can a running machine go there? Pure; asked before anything is copied. The refusal names the first
 * reason, and the nearest model with which the machine, once restarted, would be accepted.
 */
export function compatible(source: HotDescription, destination: HotCapabilities): HotVerdict {
  const reason = hostFault(source, destination) ?? machineFault(source);
  if (reason !== undefined) return { possible: false, reason };
  return modelFault(source, destination) ?? { possible: true, postcopy: destination.postcopy };
}

function hostFault(source: HotDescription, there: HotCapabilities): string | undefined {
  if (source.hypervisor !== there.hypervisor) {
    return `the machine runs on ${source.hypervisor}, the destination has ${there.hypervisor}`;
  }
  if (source.architecture !== there.architecture) {
    return `the machine is ${source.architecture}, the destination is ${there.architecture}`;
  }
  if (compareVersions(there.version, source.version) < 0) {
    return `the destination's ${there.hypervisor} ${there.version} is older than the source's ${source.version}`;
  }
  if (there.cpuModels[source.accelerator] === undefined) {
    return `the machine runs with ${source.accelerator}, which the destination does not have`;
  }
  const missing = NEEDED.find((feature) => !there.features.includes(feature));
  return missing === undefined ? undefined : `the destination lacks ${missing}`;
}

function machineFault(source: HotDescription): string | undefined {
  const format = source.formats.find((name) => !MOVABLE_FORMATS.includes(name));
  if (format !== undefined) return `a disk of format ${format} cannot leave while the machine runs`;
  const early = compareVersions(source.version, TCG_MENDED) < 0;
  if (source.accelerator === "tcg" && early && isTrapped(source.ramBytes)) {
    return `TCG of QEMU ${source.version} would corrupt ${source.ramBytes} bytes of RAM, a multiple of 256 KiB`;
  }
  return undefined;
}

function modelFault(source: HotDescription, there: HotCapabilities): HotVerdict | undefined {
  const { machineType, cpuModel, accelerator } = source;
  if (!there.machineTypes.includes(machineType)) {
    return refusal(`no machine type ${machineType}`, nearestType(machineType, there.machineTypes));
  }
  const models = there.cpuModels[accelerator] ?? [];
  if (models.includes(cpuModel)) return undefined;
  return refusal(`no processor model ${cpuModel}`, nearestModel(cpuModel, models));
}

function refusal(lack: string, nearest: string | undefined): HotVerdict {
  const reason = `the destination has ${lack}`;
  return { possible: false, reason, ...(nearest === undefined ? {} : { nearest }) };
}

/** Compares numbers between dots: 7.2.22 is above 7.2.9. */
export function compareVersions(one: string, other: string): number {
  const [left, right] = [one, other].map((text) => text.split(".").map(Number));
  for (let index = 0; index < 3; index++) {
    const difference = (left?.[index] ?? 0) - (right?.[index] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

/** `pc-q35-7.2` is of the family `pc-q35` in version 7.2. */
function partsOf(name: string): { family: string; version: string } {
  const [, family = name, version = "0"] = /^(.*)-(\d+(?:\.\d+)*)$/.exec(name) ?? [];
  return { family, version };
}

/** The newest of the same family that is not newer. */
function nearestType(wanted: string, known: readonly string[]): string | undefined {
  const { family, version } = partsOf(wanted);
  const older = known.filter((name) => {
    const parts = partsOf(name);
    return parts.family === family && compareVersions(parts.version, version) < 0;
  });
  return older.toSorted((a, b) => compareVersions(partsOf(a).version, partsOf(b).version)).at(-1);
}

const rungOf = (model: string): number =>
  LADDER.indexOf(model.replace(/-(v\d+|noTSX.*|IBRS)$/, ""));

/** The richest model that has no more than the wanted one. */
function nearestModel(wanted: string, known: readonly string[]): string | undefined {
  const rung = rungOf(wanted);
  const below = known.filter((model) => rungOf(model) >= 0 && rungOf(model) <= rung);
  return below.toSorted((a, b) => rungOf(a) - rungOf(b) || a.localeCompare(b)).at(-1);
}
