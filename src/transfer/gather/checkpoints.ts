import type { Assembly } from "#repository";
import { toldParts, type Building } from "./arrivals.ts";
import { encodeState } from "./state.ts";

/** Two intervals and a piece of a content that is not whole stay below the 8 MiB that may come again. */
const INTERVAL_BYTES = 3 * 2 ** 20;
/** The best that compression is trusted with. */
const RAW_BYTES_PER_WIRE_BYTE = 4;

/** Makes what has come durable while more comes: at most two intervals are lost in a crash. */
export class Checkpoints {
  readonly #assembly: Assembly;
  readonly #building: Building;
  readonly #recipe: Uint8Array;
  #sinceBytes = 0;
  #running: Promise<void> = Promise.resolve();

  /** @param recipe digest of the recipe, 32 bytes */
  constructor(assembly: Assembly, building: Building, recipe: Uint8Array) {
    this.#assembly = assembly;
    this.#building = building;
    this.#recipe = recipe;
  }

  /**
   * Counts what came by what it would cost to send it again. With several streams the bytes on the
   * wire are counted for the one that looks, so that the raw bytes bound them on both sides.
   *
   * @throws what the checkpoint before threw
   */
  async count(rawBytes: number, wireBytes: number): Promise<void> {
    this.#sinceBytes += Math.min(rawBytes, Math.max(wireBytes, rawBytes / RAW_BYTES_PER_WIRE_BYTE));
    if (this.#sinceBytes < INTERVAL_BYTES) return;
    this.#sinceBytes = 0;
    await this.#running;
    this.#running = this.#make();
    // Its failure is met at the next one, or at the end.
    this.#running.catch(() => undefined);
  }

  /** Returns when what came before the call is durable. */
  async end(): Promise<void> {
    await this.#running;
    await this.#make();
  }

  /** Waits for a checkpoint that is being made, however it ends. */
  async settled(): Promise<void> {
    await this.#running.catch(() => undefined);
  }

  async #make(): Promise<void> {
    const { writer, whole } = this.#building;
    const state = encodeState(this.#recipe, { whole, parts: toldParts(this.#building) });
    await writer.flush();
    await this.#assembly.checkpoint(state);
  }
}
