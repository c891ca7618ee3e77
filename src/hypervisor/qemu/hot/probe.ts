import { z } from "zod";
import { TesseraError, type World } from "#core";
import type { HotCapabilities } from "../../contract.ts";
import type { Accelerator } from "../arguments.ts";
import { encodeCommand, QmpDecoder, type QmpMessage } from "../qmp-codec.ts";

const PROBE_TIMEOUT_MS = 30_000;
const POSTCOPY = [{ capability: "postcopy-ram", state: true }];
const QUESTIONS = [
  ["qmp_capabilities", {}],
  ["query-machines", {}],
  ["query-cpu-definitions", {}],
  ["query-migrate-capabilities", {}],
  // A QEMU that is to receive refuses it where the kernel has no userfaultfd for it.
  ["migrate-set-capabilities", { capabilities: POSTCOPY }],
  ["quit", {}],
] as const;

const MACHINES = z.array(z.object({ name: z.string() }));
const MODELS = z.array(
  z.object({
    name: z.string(),
    "unavailable-features": z.array(z.string()).default([]),
    "migration-safe": z.boolean().default(false),
  }),
);
const FEATURES = z.array(z.object({ capability: z.string() }));

/** Asks a QEMU without a guest what it can receive: a tenth of a second. */
export async function probeHot(
  world: World,
  program: string,
  version: string,
  accelerators: readonly Accelerator[],
): Promise<HotCapabilities> {
  const answers = new Map<string, ProbeAnswer>();
  for (const accelerator of accelerators) {
    answers.set(accelerator, await probeOne(world, program, accelerator));
  }
  const all = [...answers.values()];
  const models = [...answers].map(([accelerator, answer]) => [accelerator, answer.cpuModels]);
  return {
    hypervisor: "qemu",
    version,
    architecture: "amd64",
    machineTypes: all[0]?.machineTypes ?? [],
    features: all[0]?.features ?? [],
    cpuModels: Object.fromEntries(models) as Record<string, string[]>,
    postcopy: all.length > 0 && all.every(({ postcopy }) => postcopy),
  };
}

interface ProbeAnswer {
  readonly machineTypes: readonly string[];
  readonly cpuModels: readonly string[];
  readonly features: readonly string[];
  readonly postcopy: boolean;
}

async function probeOne(
  world: World,
  program: string,
  accelerator: Accelerator,
): Promise<ProbeAnswer> {
  const common = ["-no-user-config", "-nodefaults", "-display", "none", "-incoming", "defer"];
  const args = [...common, "-machine", "q35", "-accel", accelerator, "-qmp", "stdio"];
  const input = QUESTIONS.map(([command, given], id) => encodeCommand(id, command, given)).join("");
  const options = { input, timeout_ms: PROBE_TIMEOUT_MS };
  const { output, errorText } = await world.processes.run(program, args, options);
  return answerOf(new QmpDecoder().push(output), errorText);
}

/** @throws `hypervisor.probe-failed` with QEMU's words */
export function answerOf(messages: readonly QmpMessage[], words: string): ProbeAnswer {
  const values = new Map<string, unknown>();
  for (const message of messages) {
    const question = "id" in message ? QUESTIONS[message.id ?? -1] : undefined;
    if (question !== undefined && message.type === "return") {
      values.set(question[0], message.value);
    }
  }
  const read = <T>(schema: z.ZodType<T>, question: string): T => {
    const decoded = schema.safeParse(values.get(question));
    if (decoded.success) return decoded.data;
    throw probeError(words || `no answer to ${question}`, decoded.error);
  };
  const models = read(MODELS, "query-cpu-definitions").filter(
    (model) => model["unavailable-features"].length === 0 && model["migration-safe"],
  );
  return {
    machineTypes: read(MACHINES, "query-machines").map(({ name }) => name),
    cpuModels: models.map(({ name }) => name),
    features: read(FEATURES, "query-migrate-capabilities").map(({ capability }) => capability),
    postcopy: values.has("migrate-set-capabilities"),
  };
}

function probeError(reason: string, cause: unknown): TesseraError {
  const message = `QEMU does not tell what it can receive: ${reason.trim()}`;
  return new TesseraError("environment", "hypervisor.probe-failed", message, {
    remedy: "run the program with -qmp stdio and look at what it says",
    cause,
  });
}
