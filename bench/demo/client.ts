/**
 * A client that asks a machine's services every 10 ms, through the ports that are forwarded to it at
 * either cloud, and sees the longest time without an answer.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { guestsBelow } from "./processes.ts";

const PERIOD_MS = 10;
/**
 * A question that has no answer for so long is asked on a new connection too; twice as long with each
 * further one, as what is slow to answer is not helped by more questions.
 */
const SILENT_MS = 50;
const SILENT_MAX_MS = 400;
/** At each port: a machine that is paused answers none. */
const CONNECTIONS_MAX = 20;
/** In turns; the hypervisor that takes the machine runs for seconds before the machine does. */
const PORTS_EVERY = 25;

export interface Service {
  readonly name: string;
  /** In the guest. */
  readonly port: number;
  readonly question: string;
  /** With which an answer ends. */
  readonly answer: string;
}

export interface Silence {
  readonly service: string;
  readonly answers: number;
  /** The longest time between two answers, whichever cloud they came from. */
  readonly longest_ms: number;
  /** When it began and when it ended, in milliseconds since the Unix epoch. */
  readonly longestFrom_ms: number;
  readonly longestTo_ms: number;
  /** The longest time between two turns of the client, for which it was busy or not let run. */
  readonly heldUp_ms: number;
}

/** Questions at one port, each when the one before is answered. */
class Line {
  readonly #port: number;
  readonly #service: Service;
  readonly #answered: () => void;
  readonly #sockets: Socket[] = [];
  #asked_ms: number | undefined;
  #patience_ms = SILENT_MS;

  constructor(port: number, service: Service, answered: () => void) {
    this.#port = port;
    this.#service = service;
    this.#answered = answered;
  }

  turn(): void {
    const newest = this.#sockets.at(-1);
    const asked_ms = this.#asked_ms;
    const isSilent = asked_ms !== undefined && performance.now() - asked_ms > this.#patience_ms;
    if (isSilent) this.#patience_ms = Math.min(SILENT_MAX_MS, 2 * this.#patience_ms);
    if (newest === undefined || isSilent) this.#ask(this.#connect());
    else if (asked_ms === undefined) this.#ask(newest);
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.destroy();
  }

  #ask(socket: Socket): void {
    this.#asked_ms = performance.now();
    socket.write(this.#service.question);
  }

  #connect(): Socket {
    const socket = connect({ host: "127.0.0.1", port: this.#port, noDelay: true });
    let heard = "";
    socket.on("data", (data) => {
      heard += data.toString("latin1");
      if (!heard.includes(this.#service.answer)) return;
      heard = "";
      this.#answered();
      this.#patience_ms = SILENT_MS;
      if (socket === this.#sockets.at(-1)) this.#asked_ms = undefined;
    });
    // What follows is "close".
    socket.on("error", () => undefined);
    socket.on("close", () => this.#forget(socket));
    this.#sockets.push(socket);
    if (this.#sockets.length > CONNECTIONS_MAX) this.#sockets.shift()?.destroy();
    return socket;
  }

  #forget(socket: Socket): void {
    const at = this.#sockets.indexOf(socket);
    if (at >= 0) this.#sockets.splice(at, 1);
  }
}

/** The ports that hypervisors of these clouds forward to a port of the guest now. */
function forwarded(clouds: readonly string[], guestPort: number): number[] {
  const pattern = new RegExp(`hostfwd=tcp:127\\.0\\.0\\.1:(\\d+)-:${guestPort}(?!\\d)`);
  return clouds.flatMap((cloud) =>
    guestsBelow(cloud).flatMap(({ pid }) => {
      const found = pattern.exec(commandOf(pid));
      return found === null ? [] : [Number(found[1])];
    }),
  );
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

/** Asks one service until it is told to stop. */
export class Client {
  readonly #service: Service;
  readonly #clouds: readonly string[];
  readonly #timer: NodeJS.Timeout;
  readonly #lines = new Map<number, Line>();
  #turn = 0;
  #answers = 0;
  #last_ms: number | undefined;
  #longest_ms = 0;
  #longestTo_ms = 0;
  #turned_ms = performance.now();
  #heldUp_ms = 0;

  /** @param clouds directories of the clouds at which the machine may be */
  constructor(service: Service, clouds: readonly string[]) {
    this.#service = service;
    this.#clouds = clouds;
    this.#timer = setInterval(() => this.#askAll(), PERIOD_MS);
  }

  get answers(): number {
    return this.#answers;
  }

  /** Forgets what was; the time since the last answer counts on. */
  begin(): void {
    this.#answers = 0;
    this.#longest_ms = 0;
    this.#longestTo_ms = 0;
    this.#heldUp_ms = 0;
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const line of this.#lines.values()) line.close();
  }

  /** What was seen since the beginning; the silence at this moment counts. */
  told(): Silence {
    this.#note();
    const { name } = this.#service;
    const [longest_ms, heldUp_ms] = [this.#longest_ms, this.#heldUp_ms];
    const longestTo_ms = performance.timeOrigin + this.#longestTo_ms;
    const longestFrom_ms = longestTo_ms - longest_ms;
    const answers = this.#answers;
    return { service: name, answers, longest_ms, longestFrom_ms, longestTo_ms, heldUp_ms };
  }

  #askAll(): void {
    const now_ms = performance.now();
    this.#heldUp_ms = Math.max(this.#heldUp_ms, now_ms - this.#turned_ms);
    this.#turned_ms = now_ms;
    if (this.#turn % PORTS_EVERY === 0) this.#find();
    this.#turn += 1;
    for (const line of this.#lines.values()) line.turn();
  }

  #find(): void {
    const ports = forwarded(this.#clouds, this.#service.port);
    for (const [port, line] of this.#lines) {
      if (ports.includes(port)) continue;
      line.close();
      this.#lines.delete(port);
    }
    for (const port of ports) {
      if (this.#lines.has(port)) continue;
      this.#lines.set(port, new Line(port, this.#service, () => this.#heard()));
    }
  }

  #heard(): void {
    this.#note();
    this.#answers += 1;
    this.#last_ms = performance.now();
  }

  #note(): void {
    if (this.#last_ms === undefined) return;
    const now_ms = performance.now();
    if (now_ms - this.#last_ms <= this.#longest_ms) return;
    this.#longest_ms = now_ms - this.#last_ms;
    this.#longestTo_ms = now_ms;
  }
}
