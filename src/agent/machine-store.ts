import { join } from "node:path";
import * as z from "zod";
import { words } from "#api";
import { hasCode, reportOf, TesseraError, type Digest, type Machine, type World } from "#core";

/** What is kept of a machine beside what others see. */
export interface StoredMachine {
  readonly machine: Machine;
  /** Digest of the composed image that it was last started from. */
  readonly composed?: Digest;
  /** How it was last stopped. */
  readonly lastStop?: "graceful" | "forced";
  /** The migration in which it was started here: it has run, and its data counts. */
  readonly ranIn?: string;
}

/** Without the mark of a migration that has ended; unchanged where it has another or none. */
export function unmarked(stored: StoredMachine, migration: string): StoredMachine {
  if (stored.machine.migration !== migration) return stored;
  const { migration: _ended, ...machine } = stored.machine;
  return { ...stored, machine };
}

/** The machine is another cloud's by this migration: what is here is its earlier copy. */
export function handedTo(stored: StoredMachine, migration: string, cloud: string): StoredMachine {
  if (stored.machine.migration !== migration) return stored;
  const { machine } = unmarked(stored, migration);
  return { ...stored, machine: { ...machine, state: "gone", cloud, hostPorts: {} } };
}

const shape = z
  .object({
    machine: words.machine,
    composed: z.custom<Digest>(),
    lastStop: z.enum(["graceful", "forced"]),
    ranIn: z.string(),
  })
  .partial({ composed: true, lastStop: true, ranIn: true });

const BYTES_MAX = 4 * 2 ** 20;

/** Machines on disk: `machines/UUID/machine.json`, each replaced atomically. */
export interface MachineStore {
  /** A machine whose description cannot be read is logged and left out: the others go on. */
  list(): Promise<StoredMachine[]>;
  /** @throws `agent.machine-corrupt` */
  find(uuid: string): Promise<StoredMachine | undefined>;
  save(stored: StoredMachine): Promise<void>;
  /** Removes the machine and its user data block. */
  remove(uuid: string): Promise<void>;
  /** By name or UUID. @throws `agent.machine-unknown`, `agent.machine-corrupt` */
  resolve(nameOrUuid: string): Promise<StoredMachine>;
  directory(uuid: string): string;
  /** The raw user data block, or what is under an overlay: see machine-data.ts. */
  dataPath(uuid: string): string;
}

export function openMachineStore(
  { files, log }: Pick<World, "files" | "log">,
  root: string,
): MachineStore {
  /** Those that the log has told of, since lists are made all the time. */
  const told = new Set<string>();
  const directory = (uuid: string): string => join(root, uuid);
  const file = (uuid: string): string => join(directory(uuid), "machine.json");

  async function find(uuid: string): Promise<StoredMachine | undefined> {
    if (!z.uuid().safeParse(uuid).success) return undefined;
    try {
      return decode(file(uuid), uuid, await files.readFile(file(uuid), BYTES_MAX));
    } catch (error) {
      if (hasCode(error, "system.not-found")) return undefined;
      throw hasCode(error, "system.too-large") ? corrupt(file(uuid), error) : error;
    }
  }

  async function readable(uuid: string): Promise<StoredMachine | undefined> {
    try {
      const stored = await find(uuid);
      told.delete(uuid);
      return stored;
    } catch (error) {
      if (!hasCode(error, "agent.machine-corrupt")) throw error;
      if (!told.has(uuid)) log.log("error", "a machine is left out", { ...reportOf(error) });
      told.add(uuid);
      return undefined;
    }
  }

  async function list(): Promise<StoredMachine[]> {
    const found = await Promise.all((await files.list(root)).map(readable));
    return found.filter((stored) => stored !== undefined);
  }

  return {
    list,
    find,
    directory,
    dataPath: (uuid) => join(directory(uuid), "data.raw"),
    save: async (stored) => {
      await files.makeDirectory(directory(stored.machine.uuid), 0o700);
      await files.writeFileAtomic(file(stored.machine.uuid), JSON.stringify(stored), 0o600);
    },
    remove: async (uuid) => {
      // Without its description the rest is a leftover that nobody takes for a machine.
      await files.remove(file(uuid));
      await files.removeTree(directory(uuid));
    },
    resolve: async (nameOrUuid) => (await find(nameOrUuid)) ?? pick(await list(), nameOrUuid),
  };
}

function decode(path: string, uuid: string, content: Uint8Array): StoredMachine {
  let stored: StoredMachine;
  try {
    stored = shape.parse(JSON.parse(Buffer.from(content).toString("utf8"))) as StoredMachine;
  } catch (cause) {
    throw corrupt(path, cause);
  }
  // The copy of a directory is not a second machine.
  if (stored.machine.uuid !== uuid) throw corrupt(path);
  return stored;
}

function corrupt(path: string, cause?: unknown): TesseraError {
  const message = `${path} does not describe the machine`;
  return new TesseraError("corrupt", "agent.machine-corrupt", message, {
    subject: path,
    remedy: "put a copy of the file back; or end the agent and remove the directory",
    cause,
  });
}

function pick(all: readonly StoredMachine[], text: string): StoredMachine {
  const present = all.filter(({ machine }) => machine.state !== "gone");
  const found =
    present.find(({ machine }) => machine.name === text) ??
    all.find(({ machine }) => machine.name === text);
  if (found !== undefined) return found;
  throw new TesseraError("misuse", "agent.machine-unknown", `no machine "${text}" here`, {
    subject: text,
    remedy: 'see "tessera machine ls"',
  });
}
