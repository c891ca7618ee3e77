import { join } from "node:path";
import { hasCode, hexOf, type Digest, type World } from "#core";
import { digestOf } from "./blobs.ts";
import { decodePin, type Pin } from "./decode.ts";
import { RECORD_BYTES_MAX, type Layout } from "./layout.ts";

/** One file per owner, named by the digest of the owner. Changes need the catalogue's lock. */
export class Pins {
  readonly #world: World;
  readonly #layout: Layout;

  constructor(world: World, layout: Layout) {
    this.#world = world;
    this.#layout = layout;
  }

  async add(owner: string, ids: readonly Digest[]): Promise<void> {
    const held = (await this.all()).get(owner) ?? [];
    const pin: Pin = { owner, ids: [...new Set([...held, ...ids])].toSorted() };
    await this.#world.files.writeFileAtomic(this.#path(owner), JSON.stringify(pin));
  }

  remove(owner: string): Promise<void> {
    return this.#world.files.remove(this.#path(owner));
  }

  /**
   * A pin file that is not readable is an error: what it protects is not known. One that has gone
   * since it was listed protects nothing.
   */
  async all(): Promise<Map<string, readonly Digest[]>> {
    const pins = new Map<string, readonly Digest[]>();
    for (const name of await this.#world.files.list(this.#layout.pins)) {
      if (!name.endsWith(".json")) continue;
      const path = join(this.#layout.pins, name);
      const pin = await this.#read(path);
      if (pin !== undefined) pins.set(pin.owner, pin.ids);
    }
    return pins;
  }

  async #read(path: string): Promise<Pin | undefined> {
    try {
      return decodePin(await this.#world.files.readFile(path, RECORD_BYTES_MAX));
    } catch (error) {
      if (hasCode(error, "system.not-found")) return undefined;
      throw error;
    }
  }

  async ownersOf(id: Digest): Promise<string[]> {
    return [...(await this.all())].filter(([, ids]) => ids.includes(id)).map(([owner]) => owner);
  }

  #path(owner: string): string {
    return join(this.#layout.pins, `${hexOf(digestOf(new TextEncoder().encode(owner)))}.json`);
  }
}
