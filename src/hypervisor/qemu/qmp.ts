import { connect, type Socket } from "node:net";
import { TesseraError, type Clock, type Json } from "#core";
import { encodeCommand, QmpDecoder, type QmpEvent, type QmpMessage } from "./qmp-codec.ts";

export interface QmpCommandOptions {
  /** Default 10 seconds. */
  readonly timeout_ms?: number;
  /** Run it even while the main loop hangs; only commands that QEMU allows. */
  readonly outOfBand?: boolean;
}

export type QmpListener = (event: QmpEvent) => void;

const COMMAND_TIMEOUT_MS = 10_000;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A connection to QEMU's monitor. QEMU serves one connection at a time and lets others wait, so it
 * is opened for a purpose and closed after it.
 */
export class Qmp {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #decoder = new QmpDecoder();
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Set<QmpListener>();
  readonly #greeting = Promise.withResolvers<readonly string[]>();
  readonly #closed = Promise.withResolvers<void>();
  #end: unknown;
  #nextId = 0;

  private constructor(socket: Socket, clock: Clock) {
    this.#socket = socket;
    this.#clock = clock;
    // Without this, a greeting that never comes would be an unhandled rejection.
    this.#greeting.promise.catch(() => {});
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    socket.on("error", (cause) => this.#finish(connectionError(cause)));
    socket.on("close", () => {
      this.#finish(connectionError());
      this.#closed.resolve();
    });
  }

  /**
   * Connects, reads the greeting and negotiates capabilities.
   *
   * @throws `hypervisor.qmp-closed` (environment), `hypervisor.qmp-timeout` (environment),
   *   `hypervisor.qmp-broken` (peer)
   */
  static async open(path: string, clock: Clock, timeout_ms = COMMAND_TIMEOUT_MS): Promise<Qmp> {
    const qmp = new Qmp(connect(path), clock);
    try {
      const offered = await qmp.#limited(qmp.#greeting.promise, "the greeting", timeout_ms);
      const enable = offered.includes("oob") ? ["oob"] : [];
      await qmp.execute("qmp_capabilities", { enable }, { timeout_ms });
      return qmp;
    } catch (error) {
      await qmp.close();
      throw error;
    }
  }

  /**
   * Runs a command and returns its `return` member, not validated.
   *
   * @throws `hypervisor.qmp-refused` with QEMU's words, and as `open`
   */
  async execute(
    command: string,
    args: Readonly<Record<string, Json>> = {},
    options: QmpCommandOptions = {},
  ): Promise<unknown> {
    if (this.#end !== undefined) throw this.#end;
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    this.#socket.write(encodeCommand(id, command, args, options.outOfBand));
    try {
      return await this.#limited(promise, command, options.timeout_ms ?? COMMAND_TIMEOUT_MS);
    } finally {
      this.#waiting.delete(id);
    }
  }

  /** Calls back for every event from now on; the returned function ends that. */
  onEvent(listener: QmpListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the connection is gone, from either side. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  async close(): Promise<void> {
    this.#finish(connectionError());
    this.#socket.destroy();
    await this.#closed.promise;
  }

  async #limited<T>(work: Promise<T>, subject: string, timeout_ms: number): Promise<T> {
    const late = Promise.withResolvers<never>();
    const cancel = this.#clock.after(timeout_ms, () => late.reject(timeoutError(subject)));
    try {
      return await Promise.race([work, late.promise]);
    } finally {
      cancel();
    }
  }

  #receive(chunk: Uint8Array): void {
    try {
      for (const message of this.#decoder.push(chunk)) this.#handle(message);
    } catch (error) {
      this.#finish(error);
      this.#socket.destroy();
    }
  }

  #handle(message: QmpMessage): void {
    if (message.type === "greeting") return this.#greeting.resolve(message.capabilities);
    if (message.type === "event") {
      for (const listener of this.#listeners) listener(message);
      return;
    }
    // An answer that nobody waits for any more comes after its time-out.
    const waiting = message.id === undefined ? undefined : this.#waiting.get(message.id);
    if (message.type === "return") waiting?.resolve(message.value);
    else waiting?.reject(refused(message.error.class, message.error.description));
  }

  #finish(error: unknown): void {
    if (this.#end !== undefined) return;
    this.#end = error;
    this.#greeting.reject(error);
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

function connectionError(cause?: unknown): TesseraError {
  return new TesseraError("environment", "hypervisor.qmp-closed", "QEMU's monitor is closed", {
    remedy: "look at qemu.log in the machine's directory",
    ...(cause === undefined ? {} : { cause }),
  });
}

function timeoutError(subject: string): TesseraError {
  return new TesseraError(
    "environment",
    "hypervisor.qmp-timeout",
    `QEMU did not answer in time: ${subject}`,
    { subject, remedy: "look at qemu.log in the machine's directory" },
  );
}

function refused(name: string, description: string): TesseraError {
  return new TesseraError("environment", "hypervisor.qmp-refused", `QEMU: ${description}`, {
    subject: name,
  });
}
