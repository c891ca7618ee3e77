import {
  checkConstraints,
  parseAppliance,
  resolveAppliance,
  type ApplianceRecipe,
  type CloudInit,
} from "#compose";
import { componentsOf, TesseraError, type Appliance, type Component, type Machine } from "#core";
import type { Handlers, Input } from "#api";
import type { ComponentStore } from "#repository";
import { exportMachine } from "../exports.ts";
import { importMachine } from "../imports.ts";
import { dependenceOf } from "../migrations/hot/dependence.ts";
import { pushMade } from "../upstream/push.ts";
import type { Parts } from "./parts.ts";

type MachineOperations = Pick<
  Handlers,
  | "appliance.check"
  | "appliance.add"
  | "appliance.list"
  | "appliance.show"
  | "appliance.remove"
  | "machine.create"
  | "machine.export"
  | "machine.import"
  | "machine.select"
  | "machine.list"
  | "machine.show"
  | "machine.start"
  | "machine.stop"
  | "machine.remove"
  | "machine.console"
>;

const CONSOLE_CHUNK_BYTES = 256 * 1024;

export function machineHandlers(parts: Parts): MachineOperations {
  const { appliances, machines } = parts;
  return {
    "appliance.check": (input) => check(parts, input),
    "appliance.add": async (input) => {
      const { appliance, fits, unmet } = await check(parts, input);
      if (!fits) throw notMet(appliance, unmet);
      await appliances.save(appliance);
      return appliance;
    },
    "appliance.list": async () => ({ appliances: await appliances.list() }),
    "appliance.show": ({ appliance }) => appliances.resolve(appliance),
    "appliance.remove": async ({ appliance }) => ({ removed: await appliances.remove(appliance) }),
    "machine.select": async ({ features: { text, fileName } }) =>
      (await parts.selector.select(parseAppliance(text, fileName))).selection,
    "machine.create": async (input, { signal }) => {
      if ((input.appliance === undefined) === (input.features === undefined)) throw whatOf(input);
      const files = filesOf(input);
      if (input.appliance !== undefined) {
        const appliance = await appliances.resolve(input.appliance);
        return await parts.selector.complete(appliance, signal, () =>
          machines.create(input.name, appliance, files, input.cloudInit),
        );
      }
      const { text = "", fileName = "" } = input.features ?? {};
      const recipe = parseAppliance(text, fileName);
      const cloudInit = cloudInitOf(recipe, input);
      return await parts.selector.obtain(recipe, signal, async (appliance) => {
        const machine = await machines.create(input.name, appliance, files, cloudInit);
        await parts.offerChanged();
        return machine;
      });
    },
    "machine.import": async (input, context) => {
      const result = await importMachine(parts, input, context);
      if (input.dryRun === true || result.machine === undefined) return result;
      await parts.offerChanged();
      const { appliance } = result.machine;
      return {
        ...result,
        ...(await pushMade(parts, await heldOf(parts.store, appliance), context.signal)),
      };
    },
    "machine.export": (input, context) => exportMachine(parts, input, context),
    "machine.list": async () => ({ machines: await machines.list() }),
    "machine.show": async ({ machine }) => (await machines.store.resolve(machine)).machine,
    "machine.start": async ({ machine, timeout_ms }, { signal }) => {
      const { uuid } = (await machines.store.resolve(machine)).machine;
      await machines.start(uuid);
      await machines.ready(uuid, signal, timeout_ms);
      return (await machines.store.resolve(uuid)).machine;
    },
    "machine.stop": async ({ machine, timeout_ms, force }) => {
      const { uuid } = await notDependedUpon(parts, machine, "stopped");
      const stop = await machines.stop(uuid, force === true ? 0 : timeout_ms);
      return { machine: (await machines.store.resolve(uuid)).machine, stop };
    },
    "machine.remove": async ({ machine }) => {
      const { uuid } = await notDependedUpon(parts, machine, "removed");
      await machines.remove(uuid);
      return { removed: uuid };
    },
    "machine.console": async ({ machine, offset }) =>
      await consoleChunk(parts, (await machines.store.resolve(machine)).machine, offset ?? 0),
  };
}

/**
 * The machine, which another cloud does not need: what is left here of one that has moved while it ran
 * may be all that there is of its memory and user data.
 *
 * @throws `agent.machine-in-use` (misuse)
 */
async function notDependedUpon(
  { machines, migrations, board }: Parts,
  text: string,
  done: "stopped" | "removed",
): Promise<Machine> {
  const { machine } = await machines.store.resolve(text);
  const record = migrations.list().find(({ id }) => id === machine.migration);
  if (record?.role !== "source") return machine;
  const dependence = dependenceOf(record, board.streams(record));
  if (dependence === undefined) return machine;
  const message = `machine "${machine.name}" cannot be ${done}: ${dependence}`;
  throw new TesseraError("misuse", "agent.machine-in-use", message, {
    subject: machine.uuid,
    remedy: "wait for the end of its migration",
  });
}

async function heldOf(store: ComponentStore, appliance: Appliance): Promise<Component[]> {
  const found = await Promise.all(componentsOf(appliance).map(({ id }) => store.find(id)));
  return found.filter((component) => component !== undefined);
}

function whatOf({ name }: Input<"machine.create">): TesseraError {
  const message = `machine "${name}" is to be made of an appliance or of features, of one of them`;
  return new TesseraError("misuse", "agent.machine-of-what", message, { subject: name });
}

function filesOf({ files }: Input<"machine.create">) {
  return (files ?? []).map(({ path, contentBase64, mode }) => ({
    path,
    content: Buffer.from(contentBase64, "base64"),
    ...(mode === undefined ? {} : { mode }),
  }));
}

/** What is given with the request goes before what the file has. */
function cloudInitOf(
  { cloudInit: own }: ApplianceRecipe,
  { cloudInit: given }: Input<"machine.create">,
): CloudInit | undefined {
  return own === undefined && given === undefined ? undefined : { ...own, ...given };
}

async function check({ store }: Parts, { text, fileName }: Input<"appliance.check">) {
  const recipe = parseAppliance(text, fileName);
  if (recipe.cloudInit !== undefined) throw misplaced(recipe.name);
  const appliance = await resolveAppliance(recipe, store);
  const unmet = checkConstraints(await heldOf(store, appliance));
  return { appliance, fits: unmet.length === 0, unmet };
}

function misplaced(name: string): TesseraError {
  const message = `appliance "${name}" has "cloudInit", which belongs to a single machine`;
  return new TesseraError("misuse", "agent.cloud-init-misplaced", message, {
    subject: name,
    remedy: "leave it out here, and give it when a machine is made",
  });
}

function notMet(
  appliance: Appliance,
  unmet: readonly { readonly componentName: string; readonly need: { readonly name: string } }[],
): TesseraError {
  const [first] = unmet;
  const what = `${first?.componentName ?? "a component"} needs ${first?.need.name ?? "more"}`;
  const message = `appliance "${appliance.name}" does not fit: ${what} (${unmet.length} unmet)`;
  return new TesseraError("misuse", "compose.constraint-unmet", message, {
    subject: appliance.name,
    remedy: 'see all with "tessera appliance check FILE"',
  });
}

async function consoleChunk({ machines, world }: Parts, machine: Machine, offset: number) {
  const path = `${machines.store.directory(machine.uuid)}/console.log`;
  if ((await world.files.status(path)) === undefined) return { text: "", offset: 0, sizeBytes: 0 };
  const file = await world.files.open(path, "read");
  try {
    const { sizeBytes } = await file.status();
    const from = Math.min(offset, sizeBytes);
    const buffer = Buffer.alloc(Math.min(CONSOLE_CHUNK_BYTES, sizeBytes - from));
    const length = await file.read(buffer, from);
    const text = wholeCharacters(buffer.subarray(0, length));
    return { text: text.toString("utf8"), offset: from + text.length, sizeBytes };
  } finally {
    await file.close();
  }
}

/** Leaves out the beginning of a UTF-8 sequence whose end is not there yet. */
function wholeCharacters(bytes: Buffer): Buffer {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte >= 0x80 && byte < 0xc0) continue;
    // Neither ASCII nor what begins no character (RFC 3629) waits for more.
    if (byte < 0xc2 || byte > 0xf4) return bytes;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return needed > back ? bytes.subarray(0, bytes.length - back) : bytes;
  }
  return bytes;
}
