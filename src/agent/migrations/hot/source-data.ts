/** The source's user data block while its machine runs, and once it stands still. */
import type { BlockDevice } from "#block";
import { totalLength, type ByteRange, type World } from "#core";
import type { DataExport, HotSource } from "#hypervisor";
import { connectNbd } from "#nbd";
import { notOffered } from "../contents.ts";

/** Of NBD's `qemu:dirty-bitmap`: it was written. */
const DIRTY = 1;
const PASS = /^pass-([1-9]\d?)$/;
/** Most passes that a destination may ask for. */
export const PASSES_MAX = 99;
/** Bytes of the block that were written since the last pass began, or all once there was none. */
export const STALE_MAP = "stale";

export function passMap(pass: number): string {
  return `pass-${pass}`;
}

export interface SourceDataOptions {
  readonly world: World;
  readonly sizeBytes: number;
  /** Both clouds reach the block: there is nothing to tell of it but that the machine stands still. */
  readonly shared: boolean;
  source(): Promise<HotSource>;
  /** The files, which do not change once the machine stands still. */
  openFrozen(): Promise<BlockDevice>;
}

/**
 * Maps and blocks that a destination asks for. While the machine runs it is read through its
 * hypervisor; then from the files, so that it may end.
 */
export class SourceData {
  readonly #options: SourceDataOptions;
  /** The newest pass. */
  #last: number | undefined;
  #frozen: Promise<BlockDevice> | undefined;
  readonly #stale = Promise.withResolvers<readonly ByteRange[]>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: SourceDataOptions) {
    this.#options = options;
    this.#stale.promise.catch(() => undefined);
  }

  /** `pass-N` begins to note writes for the next; `stale` is answered once the machine stands still. */
  openMap(name: string): Promise<readonly ByteRange[]> {
    if (name === STALE_MAP) return this.#stale.promise;
    const pass = Number(PASS.exec(name)?.[1] ?? Number.NaN);
    if (this.#options.shared || !(pass <= PASSES_MAX)) return Promise.reject(noMap(name));
    const turn = this.#turn.then(() => this.#pass(pass)).finally(() => (this.#last = pass));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #pass(pass: number): Promise<readonly ByteRange[]> {
    const source = await this.#options.source();
    if (pass === 1) return await this.#firstPass(source);
    const before = passMap(pass - 1);
    await source.freezeWrites(before, passMap(pass));
    if (pass > 2) await source.forgetWrites(passMap(pass - 2));
    return await this.#writtenIn(source, before);
  }

  /** What an earlier destination was told of counts no more. */
  async #firstPass(source: HotSource): Promise<readonly ByteRange[]> {
    for (const pass of await this.#passes(source)) await source.forgetWrites(passMap(pass));
    await source.trackWrites(passMap(1));
    const live = await this.#connect(await source.exportData());
    try {
      return await live.allocated();
    } finally {
      await live.close();
    }
  }

  /** Those of which the hypervisor has notes; an earlier agent may have begun them. */
  async #passes(source: HotSource): Promise<number[]> {
    const found: number[] = [];
    for (let pass = 1; pass <= PASSES_MAX; pass += 1) {
      if ((await source.writtenBytes(passMap(pass))) !== undefined) found.push(pass);
    }
    return found;
  }

  async #writtenIn(source: HotSource, name: string): Promise<readonly ByteRange[]> {
    const shown = await source.exportData({ bitmap: name });
    const { metaContext = "" } = shown;
    const device = await this.#connect(shown, [metaContext]);
    try {
      const extents = await device.status(
        { offset: 0, length: this.#options.sizeBytes },
        metaContext,
      );
      return extents
        .filter(({ flags }) => (flags & DIRTY) !== 0)
        .map(({ offset, length }) => ({ offset, length }));
    } finally {
      await device.close();
    }
  }

  #connect({ socketPath, exportName }: DataExport, contexts: readonly string[] = []) {
    const address = { path: socketPath };
    return connectNbd(this.#options.world, { address, exportName, contexts });
  }

  /** The machine stands still: what was written last is known now. Gives the bytes of it. */
  async freeze(): Promise<number> {
    if (this.#options.shared) {
      this.#stale.resolve([]);
      return 0;
    }
    const source = await this.#options.source();
    const last = this.#last ?? (await this.#passes(source)).at(-1);
    const stale =
      last === undefined ? await this.#allocated() : await this.#lastWritten(source, last);
    this.stand();
    this.#stale.resolve(stale);
    return totalLength(stale);
  }

  async #lastWritten(source: HotSource, last: number): Promise<readonly ByteRange[]> {
    const name = passMap(last);
    await source.freezeWrites(name);
    return await this.#writtenIn(source, name);
  }

  async #allocated(): Promise<readonly ByteRange[]> {
    const device = await this.#options.openFrozen();
    try {
      return await device.allocated();
    } finally {
      await device.close();
    }
  }

  /** From now on blocks are read from the files. */
  stand(): void {
    if (this.#options.shared) return;
    this.#frozen ??= this.#options.openFrozen();
    this.#frozen.catch(() => (this.#frozen = undefined));
  }

  /** The block as it is at each moment, for single reads. */
  async openBlocks(): Promise<BlockDevice> {
    const { sizeBytes, shared } = this.#options;
    if (shared) throw noMap("blocks");
    const live = this.#frozen === undefined ? await this.#openLive() : undefined;
    const current = async (): Promise<BlockDevice> => {
      if (this.#frozen !== undefined) return await this.#frozen;
      if (live === undefined) throw noMap("blocks");
      return live;
    };
    return readOnly(sizeBytes, {
      read: async (target, offset) => await (await current()).read(target, offset),
      allocated: async () => await (await current()).allocated(),
      close: async () => await live?.close(),
    });
  }

  async #openLive(): Promise<BlockDevice> {
    return await this.#connect(await (await this.#options.source()).exportData());
  }

  /** Lets go of the files. */
  async close(): Promise<void> {
    const frozen = await this.#frozen?.catch(() => undefined);
    this.#frozen = undefined;
    await frozen?.close();
  }

  /** Ends notes and exports; the machine goes on. */
  async forget(): Promise<void> {
    const source = await this.#options.source();
    for (const pass of await this.#passes(source)) await source.forgetWrites(passMap(pass));
    await source.unexport();
  }

  /** Nothing will be told of the switch: there is none. */
  withdraw(): void {
    this.#stale.reject(noMap(STALE_MAP));
  }
}

const refuseWrite = (): Promise<never> => Promise.reject(noMap("writes"));

function readOnly(
  sizeBytes: number,
  parts: Pick<BlockDevice, "read" | "allocated" | "close">,
): BlockDevice {
  return {
    sizeBytes,
    ...parts,
    write: refuseWrite,
    zero: refuseWrite,
    flush: () => Promise.resolve(),
  };
}

function noMap(name: string): Error {
  return notOffered(`"${name}" of the user data block`);
}
