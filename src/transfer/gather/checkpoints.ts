import type { Assembly } from "#repository";
import { toldParts, type Building } from "./arrivals.ts";
import { encodeState } from "./state.ts";

/** So much makes a checkpoint worth its while. */
const WORTH_BYTES = 2 * 2 ** 20;
/**
 * More is not taken before it is durable: with the first window of a stream's credit, which may be
 * on its way, it stays below the 8 MiB that may travel twice.
 */
const PENDING_BYTES_MAX = 2.5 * 2 ** 20;
/** The best that compression is trusted with. */
const RAW_BYTES_PER_WIRE_BYTE = 4;

/** Makes what has come durable while a little more comes: the rest is lost in a crash. */
export class Checkpoints {
  readonly #assembly: Assembly;
  readonly #building: Building;
  readonly #recipe: Uint8Array;
  #sinceBytes = 0;
  /** What the checkpoint covers that is being made; 0 while there is none. */
  #makingBytes = 0;
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
   * @throws what the checkpoint before threw, or this one
   */
  async count(rawBytes: number, wireBytes: number): Promise<void> {
    this.#sinceBytes += Math.min(rawBytes, Math.max(wireBytes, rawBytes / RAW_BYTES_PER_WIRE_BYTE));
    const isMaking = this.#makingBytes > 0;
    const bytesMax = isMaking ? PENDING_BYTES_MAX - this.#makingBytes : WORTH_BYTES;
    if (this.#sinceBytes < bytesMax) return;
    await this.#running;
    if (this.#makingBytes > 0 || this.#sinceBytes < WORTH_BYTES) return;
    this.#makingBytes = this.#sinceBytes;
    this.#sinceBytes = 0;
    this.#running = this.#make().finally(() => (this.#makingBytes = 0));
    // Its failure is met at the next one, or at the end.
    this.#running.catch(() => undefined);
    if (this.#makingBytes >= PENDING_BYTES_MAX) await this.#running;
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
