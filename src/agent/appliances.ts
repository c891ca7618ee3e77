import { join } from "node:path";
import { words } from "#api";
import { hasCode, reportOf, TesseraError, type Appliance, type World } from "#core";

const BYTES_MAX = 2 ** 20;
const END = ".json";

/**
 * The appliances kept at this cloud, by name. A machine has a copy of its appliance, so that what
 * becomes of the appliance here does not touch the machines made of it.
 */
export interface Appliances {
  /** An appliance that cannot be read is logged and left out. */
  list(): Promise<Appliance[]>;
  /** By name or digest. @throws `agent.appliance-unknown`, `agent.appliance-corrupt` */
  resolve(nameOrDigest: string): Promise<Appliance>;
  /** Replaces the appliance of this name. */
  save(appliance: Appliance): Promise<void>;
  /**
   * By name or digest; also one that cannot be read, by its name.
   *
   * @returns its name
   * @throws `agent.appliance-unknown`
   */
  remove(nameOrDigest: string): Promise<string>;
}

interface Kept {
  readonly name: string;
  /** The error is that it cannot be read. */
  readonly content: Appliance | TesseraError;
}

export function openAppliances(
  { files, log }: Pick<World, "files" | "log">,
  root: string,
): Appliances {
  const path = (name: string): string => join(root, `${encodeURIComponent(name)}${END}`);

  async function read(name: string): Promise<Kept | undefined> {
    try {
      const text = Buffer.from(await files.readFile(path(name), BYTES_MAX)).toString("utf8");
      const appliance = words.appliance.parse(JSON.parse(text));
      return { name, content: appliance.name === name ? appliance : corrupt(path(name)) };
    } catch (error) {
      if (hasCode(error, "system.not-found")) return undefined;
      if (error instanceof TesseraError && error.fault !== "corrupt") throw error;
      return { name, content: corrupt(path(name), error) };
    }
  }

  async function all(): Promise<Kept[]> {
    const names = (await files.list(root)).map(nameOf).filter((name) => name !== undefined);
    return (await Promise.all(names.map(read))).filter((kept) => kept !== undefined);
  }

  async function find(text: string): Promise<Kept> {
    const kept = await all();
    const found =
      kept.find(({ name }) => name === text) ??
      kept.find(({ content }) => !(content instanceof TesseraError) && content.digest === text);
    if (found === undefined) throw unknown(text);
    return found;
  }

  return {
    list: async () =>
      (await all()).flatMap(({ content }) => {
        if (!(content instanceof TesseraError)) return [content];
        log.log("error", "an appliance is left out", { ...reportOf(content) });
        return [];
      }),
    resolve: async (text) => {
      const { content } = await find(text);
      if (content instanceof TesseraError) throw content;
      return content;
    },
    save: async (appliance) => {
      await files.makeDirectory(root);
      await files.writeFileAtomic(path(appliance.name), JSON.stringify(appliance));
    },
    remove: async (text) => {
      const { name } = await find(text);
      await files.remove(path(name));
      return name;
    },
  };
}

/** Undefined for a file that is not an appliance's. */
function nameOf(fileName: string): string | undefined {
  if (!fileName.endsWith(END)) return undefined;
  try {
    const name = decodeURIComponent(fileName.slice(0, -END.length));
    return `${encodeURIComponent(name)}${END}` === fileName ? name : undefined;
  } catch {
    return undefined;
  }
}

function unknown(text: string): TesseraError {
  return new TesseraError("misuse", "agent.appliance-unknown", `no appliance "${text}" here`, {
    subject: text,
    remedy: 'see "tessera appliance ls", or add it with "tessera appliance add FILE"',
  });
}

function corrupt(path: string, cause?: unknown): TesseraError {
  const message = `${path} does not hold the appliance`;
  return new TesseraError("corrupt", "agent.appliance-corrupt", message, {
    subject: path,
    remedy: 'add it again with "tessera appliance add FILE", or remove it',
    cause,
  });
}
