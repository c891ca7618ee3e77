import { dirname } from "node:path";
import * as z from "zod";
import { reportOf, type World } from "#core";
import type { LinkReport } from "#transfer";

const BYTES_MAX = 2 ** 20;
const CLOUDS_MAX = 1024;

const rate = z.object({
  bitsPerSecond: z.number().positive(),
  roundTrip_ms: z.number().min(0).exactOptional(),
});
const shape = z.object({ version: z.literal(1), rates: z.record(z.string().max(255), rate) });

/** What was measured of the link from another cloud. */
export type Rate = z.output<typeof rate>;

/**
 * The rates that were measured, by the cloud that sent, kept in a file. A file that is missing or
 * unreadable costs a guess, nothing more.
 */
export class RateCache {
  readonly #world: World;
  readonly #path: string;
  readonly #liars = new Set<string>();
  #known: Promise<Map<string, Rate>> | undefined;
  #saved: Promise<void> = Promise.resolve();

  constructor(world: World, path: string) {
    this.#world = world;
    this.#path = path;
  }

  /** A cloud that sent what did not match its digest is not asked for help again in this life. */
  distrust(cloud: string): void {
    this.#liars.add(cloud);
  }

  distrusts(cloud: string): boolean {
    return this.#liars.has(cloud);
  }

  async of(cloud: string): Promise<Rate | undefined> {
    return (await (this.#known ??= this.#load())).get(cloud);
  }

  /** Keeps what a link has shown: half of it and half of what was known before. */
  async note(cloud: string, { bitsPerSecond, roundTrip_ms }: LinkReport): Promise<void> {
    if (bitsPerSecond === undefined || !(bitsPerSecond > 0)) return;
    const known = await (this.#known ??= this.#load());
    const before = known.get(cloud)?.bitsPerSecond ?? bitsPerSecond;
    const fresh = (before + bitsPerSecond) / 2;
    // The newest last, so that the oldest leave first.
    known.delete(cloud);
    const trip = roundTrip_ms === undefined ? {} : { roundTrip_ms };
    known.set(cloud, { bitsPerSecond: fresh, ...trip });
    this.#saved = this.#saved.then(() => this.#save(known));
    await this.#saved;
  }

  async #load(): Promise<Map<string, Rate>> {
    try {
      const { files } = this.#world;
      if ((await files.status(this.#path)) === undefined) return new Map();
      const text = Buffer.from(await files.readFile(this.#path, BYTES_MAX)).toString("utf8");
      return new Map(Object.entries(shape.parse(JSON.parse(text)).rates));
    } catch (error) {
      this.#world.log.log("warn", "kept rates are not used", { ...reportOf(error) });
      return new Map();
    }
  }

  async #save(known: ReadonlyMap<string, Rate>): Promise<void> {
    try {
      const rates = Object.fromEntries([...known].slice(-CLOUDS_MAX));
      await this.#world.files.makeDirectory(dirname(this.#path));
      await this.#world.files.writeFileAtomic(this.#path, JSON.stringify({ version: 1, rates }));
    } catch (error) {
      this.#world.log.log("warn", "rates are not kept", { ...reportOf(error) });
    }
  }
}
