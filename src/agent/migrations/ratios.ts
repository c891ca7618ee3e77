import { dirname } from "node:path";
import * as z from "zod";
import { reportOf, type Digest, type World } from "#core";

const BYTES_MAX = 2 ** 20;
const ENTRIES_MAX = 4096;

const shape = z.object({
  version: z.literal(2),
  ratios: z.record(z.string().max(100), z.number().min(0).max(1)),
});

/**
 * Measured compression ratios by component, kept in a file: a component's bytes never
 * change. A file that is missing or unreadable costs a measurement, nothing more.
 */
export class RatioCache {
  readonly #world: World;
  readonly #path: string;
  readonly #measured = new Map<string, Promise<number>>();
  #known: Promise<Map<string, number>> | undefined;
  #saved: Promise<void> = Promise.resolve();

  constructor(world: World, path: string) {
    this.#world = world;
    this.#path = path;
  }

  /** The ratio of this component, where it was measured before. */
  async known(id: Digest): Promise<number | undefined> {
    return (await (this.#known ??= this.#load())).get(id);
  }

  /** The ratio of this component, measured if it is not known. A failure is not kept. */
  async ratio(id: Digest, measure: () => Promise<number>): Promise<number> {
    const known = await this.known(id);
    if (known !== undefined) return known;
    const measuring = this.#measured.get(id) ?? this.#measure(id, measure);
    this.#measured.set(id, measuring);
    try {
      return await measuring;
    } finally {
      this.#measured.delete(id);
    }
  }

  async #measure(id: Digest, measure: () => Promise<number>): Promise<number> {
    const ratio = await measure();
    const known = await (this.#known ??= this.#load());
    known.set(id, ratio);
    this.#saved = this.#saved
      .then(() => this.#save(known))
      .catch((error: unknown) => {
        this.#world.log.log("warn", "ratios are not kept", { ...reportOf(error) });
      });
    await this.#saved;
    return ratio;
  }

  async #load(): Promise<Map<string, number>> {
    try {
      const { files } = this.#world;
      if ((await files.status(this.#path)) === undefined) return new Map();
      const text = Buffer.from(await files.readFile(this.#path, BYTES_MAX)).toString("utf8");
      return new Map(Object.entries(shape.parse(JSON.parse(text)).ratios));
    } catch (error) {
      this.#world.log.log("warn", "kept ratios are not used", { ...reportOf(error) });
      return new Map();
    }
  }

  async #save(known: ReadonlyMap<string, number>): Promise<void> {
    const ratios = Object.fromEntries([...known].slice(-ENTRIES_MAX));
    await this.#world.files.makeDirectory(dirname(this.#path));
    const text = JSON.stringify({ version: 2, ratios });
    await this.#world.files.writeFileAtomic(this.#path, text);
  }
}
