/** The destination's hypervisor: it waits for memory, which a tunnel brings. */
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { componentsOf, TesseraError } from "#core";
import type { HotStatus, IncomingMachine } from "#hypervisor";
import { decodeMemory } from "#memory";
import type { BlobReader } from "#repository";
import { growingBuffers } from "#system";
import type { HotReceiver, MemoryTunnel } from "#transfer";
import type { HotDestinationRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";
import type { DiskServer } from "./destination-disk.ts";
import { socketFailed } from "./source-flow.ts";
import { mayPostcopy } from "./source-memory.ts";

const ARRIVE_MS = 60_000;
const FOLLOW_MS = 200;
/** A source that has nothing more to send does not answer; the hypervisor may end meanwhile. */
const MEND_MS = 60_000;
/** The machine may run, and its memory follows. */
const POSTCOPY: readonly HotStatus[] = ["postcopy-active", "postcopy-paused", "postcopy-recover"];

/** Between a tunnel and a hypervisor's socket. */
class Pump {
  readonly #ended = new AbortController();
  rawBytes = 0;
  wireBytes = 0;

  /** Aborts when nothing flows any more, for whatever reason. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  start(tunnel: MemoryTunnel, socket: Socket, images: readonly BlobReader[]): void {
    const release = growingBuffers();
    const end = (cause?: unknown): void => {
      release();
      this.#ended.abort(cause);
      socket.destroy();
      void tunnel.close(cause).catch(() => undefined);
      for (const image of images) void image.close();
    };
    const came = async (): Promise<void> => {
      await pipeline(this.#counted(decodeMemory(this.#wire(tunnel), { images })), socket);
    };
    const back = async (): Promise<void> => {
      for await (const bytes of socket.iterator({ destroyOnReturn: false })) {
        await tunnel.reply(bytes as Buffer);
      }
    };
    socket.on("error", end);
    Promise.all([came(), back()]).then(() => end(), end);
    this.stop = end;
  }

  stop: (reason?: unknown) => void = () => undefined;

  async *#wire(tunnel: MemoryTunnel): AsyncGenerator<Uint8Array> {
    for await (const chunk of tunnel.chunks) {
      this.wireBytes += chunk.length;
      yield chunk;
    }
  }

  async *#counted(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      this.rawBytes += piece.length;
      yield piece;
    }
  }
}

/** One machine's hypervisor at the destination; one instance for each course. */
export class ArrivingMemory {
  readonly #tools: MigrationTools;
  readonly #record: () => HotDestinationRecord;
  #incoming: Promise<IncomingMachine> | undefined;
  #pump: Pump | undefined;
  /** All that there were. */
  readonly #pumps: Pump[] = [];
  #mended = 0;
  /** The hypervisor waits and nothing has flowed into it. */
  #fresh = false;

  constructor(tools: MigrationTools, record: () => HotDestinationRecord) {
    this.#tools = tools;
    this.#record = record;
  }

  get #socketPath(): string {
    const directory = this.#tools.machines.store.directory(this.#record().machine.uuid);
    return join(directory, "in.sock");
  }

  /**
   * Starts the hypervisor, so that it need not be waited for later. One that was there ends.
   *
   * @param server undefined: it opens the user data block itself
   */
  async begin(server: DiskServer | undefined): Promise<void> {
    await this.end();
    this.#incoming = this.#start(server);
    this.#incoming.catch(() => (this.#incoming = undefined));
    await this.#incoming;
    this.#fresh = true;
  }

  async #start(data: DiskServer | undefined): Promise<IncomingMachine> {
    const { machine, appliance, hot } = this.#record();
    const { description } = hot;
    const incoming = await this.#tools.machines.receive(
      { ...machine, appliance },
      { description, ...(data === undefined ? {} : { data }) },
    );
    await this.#tools.world.files.remove(this.#socketPath);
    const canPostcopy = hot.postcopy;
    const postcopy = mayPostcopy({ memory: hot.memory, canPostcopy });
    await incoming.listen(this.#socketPath, postcopy ? { postcopy: "plain" } : {});
    return incoming;
  }

  /**
   * Lets memory flow in, into a hypervisor that has had none yet; resolves once it does. The signal
   * given back aborts when it has ended.
   */
  async flow(
    receiver: HotReceiver,
    server: DiskServer | undefined,
    signal: AbortSignal,
  ): Promise<AbortSignal> {
    if (!this.#fresh) await this.begin(server);
    this.#fresh = false;
    return await this.#connect(receiver, this.#socketPath, signal);
  }

  async #connect(receiver: HotReceiver, path: string, signal: AbortSignal): Promise<AbortSignal> {
    const tunnel = await openTunnel(receiver, signal);
    const images = await this.#images();
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once("error", (cause) => reject(socketFailed(path, cause)));
      socket.once("connect", () => resolve());
    }).catch(async (cause: unknown) => {
      await tunnel.close(cause);
      throw cause;
    });
    const pump = new Pump();
    pump.start(tunnel, socket, images);
    this.#pump = pump;
    this.#pumps.push(pump);
    return pump.ended;
  }

  async #images(): Promise<BlobReader[]> {
    const ids = componentsOf(this.#record().appliance).map(({ id }) => id);
    return await Promise.all(ids.map((id) => this.#tools.store.openBlob(id)));
  }

  /** What has come of memory by this agent's hands. */
  get figures(): { readonly rawBytes: number; readonly wireBytes: number } {
    const sum = (of: (pump: Pump) => number): number =>
      this.#pumps.reduce((total, pump) => total + of(pump), 0);
    return { rawBytes: sum((pump) => pump.rawBytes), wireBytes: sum((pump) => pump.wireBytes) };
  }

  /**
   * By post-copy the status alone has come when the machine may go on.
   *
   * @throws `migration.switch-failed` where it has not, and will not
   */
  async arriveStatus(signal: AbortSignal): Promise<void> {
    const incoming = await this.hypervisor();
    if (incoming === undefined) throw notArrived("its hypervisor has ended");
    const status = await incoming.until(POSTCOPY, { timeout_ms: ARRIVE_MS, signal });
    if (status === "failed" || status === "cancelled") {
      throw notArrived(`the hypervisor says ${status}`);
    }
  }

  /**
   * By post-copy: memory that follows; a link that breaks is mended. Resolves when all has come, or
   * when the hypervisor has ended.
   */
  async follow(receiver: () => HotReceiver, signal: AbortSignal): Promise<void> {
    for (;;) {
      const incoming = await this.hypervisor();
      if (incoming === undefined || (await isWhole(incoming))) return;
      if (this.#pump === undefined || this.#pump.ended.aborted) {
        await this.#mend(incoming, receiver(), signal).catch((cause: unknown) => {
          signal.throwIfAborted();
          this.#tools.world.log.log("info", "memory does not follow yet", { cause });
        });
      }
      await this.#tools.world.clock.sleep(FOLLOW_MS, signal);
    }
  }

  async #mend(incoming: IncomingMachine, receiver: HotReceiver, signal: AbortSignal) {
    const { clock, files } = this.#tools.world;
    await incoming.pause();
    const path = this.#againPath;
    await files.remove(path);
    await incoming.recover(path);
    const trying = new AbortController();
    const cancel = clock.after(MEND_MS, () => trying.abort(new Error("the source sends nothing")));
    try {
      await this.#connect(receiver, path, AbortSignal.any([signal, trying.signal]));
    } finally {
      cancel();
    }
  }

  get #againPath(): string {
    this.#mended += 1;
    return this.#socketPath.replace(/in\.sock$/, `in-${this.#mended}.sock`);
  }

  /** The hypervisor that waits, or has received; undefined when there is none. */
  async hypervisor(): Promise<IncomingMachine | undefined> {
    const known = await this.#incoming;
    const { processes } = this.#tools.world;
    if (known !== undefined && processes.alive(known.machine.identity)) return known;
    this.#incoming = undefined;
    await known?.close();
    const found = await this.#tools.machines.received(this.#record().machine.uuid);
    if (found !== undefined) this.#incoming = Promise.resolve(found);
    return found;
  }

  /** @throws `migration.switch-failed` when the machine has not arrived, and will not */
  async arrive(signal: AbortSignal): Promise<void> {
    const incoming = await this.hypervisor();
    if (incoming === undefined) throw notArrived("its hypervisor has ended");
    const status = await incoming.until(["completed"], { timeout_ms: ARRIVE_MS, signal });
    if (status !== "completed") throw notArrived(`the hypervisor says ${status}`);
  }

  /** Ends flow and hypervisor: the guest never runs here. */
  async end(): Promise<void> {
    const known = await this.hypervisor().catch(() => undefined);
    this.#incoming = undefined;
    this.#pump?.stop();
    this.#pump = undefined;
    await known?.abort();
  }

  /** Lets go of the hypervisor, which goes on as it is. */
  async close(): Promise<void> {
    this.#pump?.stop();
    this.#pump = undefined;
    const known = await this.#incoming?.catch(() => undefined);
    this.#incoming = undefined;
    await known?.close();
  }
}

/** A hypervisor that has ended is met by who asks for it next. */
async function isWhole(incoming: IncomingMachine): Promise<boolean> {
  const state = await incoming.state().catch(() => undefined);
  return state?.migration === "completed";
}

/** The signal ends opening it, not what has been opened. */
async function openTunnel(receiver: HotReceiver, signal: AbortSignal): Promise<MemoryTunnel> {
  const opening = new AbortController();
  const abort = (): void => opening.abort(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    signal.throwIfAborted();
    return await receiver.tunnelMemory(opening.signal);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

export function notArrived(reason: string): TesseraError {
  const message = `the machine did not arrive: ${reason}`;
  return new TesseraError("environment", "migration.switch-failed", message, {
    remedy: "it goes on at the source; migrate again",
  });
}
