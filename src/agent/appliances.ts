import { join } from "node:path";
import { words } from "#api";
import { parseDigest, isDigest, TesseraError, type Appliance, type FileSystem } from "#core";

const BYTES_MAX = 2 ** 20;

/** The appliances kept at this cloud, by name. */
export interface Appliances {
  list(): Promise<Appliance[]>;
  /** By name or digest. @throws `agent.appliance-unknown` */
  resolve(nameOrDigest: string): Promise<Appliance>;
  save(appliance: Appliance): Promise<void>;
  remove(name: string): Promise<void>;
}

export function openAppliances(files: FileSystem, root: string): Appliances {
  const path = (name: string): string => join(root, `${encodeURIComponent(name)}.json`);

  async function list(): Promise<Appliance[]> {
    const names = (await files.list(root)).filter((name) => name.endsWith(".json"));
    return await Promise.all(names.map((name) => read(files, join(root, name))));
  }

  async function resolve(text: string): Promise<Appliance> {
    const all = await list();
    const digest = isDigest(text) ? parseDigest(text) : undefined;
    const found = all.find((appliance) => appliance.name === text || appliance.digest === digest);
    if (found !== undefined) return found;
    throw new TesseraError("misuse", "agent.appliance-unknown", `no appliance "${text}" here`, {
      subject: text,
      remedy: 'see "tessera appliance ls", or add it with "tessera appliance add FILE"',
    });
  }

  return {
    list,
    resolve,
    save: async (appliance) => {
      await files.makeDirectory(root);
      await files.writeFileAtomic(path(appliance.name), JSON.stringify(appliance));
    },
    remove: (name) => files.remove(path(name)),
  };
}

async function read(files: FileSystem, path: string): Promise<Appliance> {
  try {
    const text = Buffer.from(await files.readFile(path, BYTES_MAX)).toString("utf8");
    return words.appliance.parse(JSON.parse(text));
  } catch (cause) {
    const message = `${path} does not hold an appliance`;
    throw new TesseraError("corrupt", "agent.appliance-corrupt", message, { subject: path, cause });
  }
}
