/**
 * Two network namespaces and the link between them: a veth pair, shaped by `tc tbf` in both
 * directions, or two TUN devices with a relay that delays every packet. What crosses is counted by
 * the kernel at the interface. Needs root. Whatever runs inside is ended with the link.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

export type Side = "sender" | "receiver";

export interface LinkShape {
  /** In each direction; absent means as fast as the machine can. */
  readonly bitsPerSecond?: number;
  /** Added to each round trip, half of it each way; 0 takes the relay too, absent the veth pair. */
  readonly roundTrip_ms?: number;
}

export const ADDRESSES: Readonly<Record<Side, string>> = {
  sender: "10.211.0.1",
  receiver: "10.211.0.2",
};
export const SIDES: readonly Side[] = ["sender", "receiver"];
const DEVICE = "link0";
export const PREFIX = "tessera-bench-";
/** Above this rate segmentation is left to the device, as network cards do. */
export const OFFLOAD_FROM = 500e6;

export function must(program: string, ...args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(" ")}: ${error?.message ?? stderr}`);
}

function namespaces(): string[] {
  const { stdout } = spawnSync("ip", ["netns", "list"], { encoding: "utf8" });
  const names = (stdout ?? "").split("\n").map((line) => line.split(" ")[0] ?? "");
  return names.filter((name) => name.startsWith(PREFIX));
}

/** Ends every process of a namespace, by its id, then removes the namespace. */
export function removeNamespace(name: string): void {
  const { stdout } = spawnSync("ip", ["netns", "pids", name], { encoding: "utf8" });
  for (const pid of (stdout ?? "").split("\n").filter(Boolean)) kill(Number(pid));
  spawnSync("ip", ["netns", "delete", name]);
}

export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

/** Removes what runs that were killed left behind. */
export function removeStale(): void {
  for (const name of namespaces()) {
    const pid = Number(name.split("-")[2]);
    if (spawnSync("test", ["-d", `/proc/${pid}`]).status !== 0) removeNamespace(name);
  }
}

let count = 0;

export class Link {
  readonly shape: LinkShape;
  readonly #names: Readonly<Record<Side, string>>;
  readonly #onExit = (): void => this.#remove();
  #relay: ChildProcess | undefined;

  private constructor(shape: LinkShape) {
    count += 1;
    const stem = `${PREFIX}${process.pid}-${count}`;
    this.shape = shape;
    this.#names = { sender: `${stem}-a`, receiver: `${stem}-b` };
    process.on("exit", this.#onExit);
  }

  static async open(shape: LinkShape = {}): Promise<Link> {
    const link = new Link(shape);
    try {
      for (const side of SIDES) {
        must("ip", "netns", "add", link.#names[side]);
        link.#ip(side, "link", "set", "lo", "up");
      }
      if (shape.roundTrip_ms === undefined) link.#joinByVeth();
      else await link.#joinByRelay(shape.roundTrip_ms / 2);
      for (const side of SIDES) link.#raise(side);
    } catch (error) {
      link.close();
      throw error;
    }
    return link;
  }

  /** The command that runs a program on one side. */
  command(side: Side, program: string, args: readonly string[]): [string, string[]] {
    return ["ip", ["netns", "exec", this.#names[side], program, ...args]];
  }

  /** Bytes of packets that crossed so far, in both directions, all headers included. */
  bytes(): number {
    const text = this.#ip("sender", "-s", "-j", "link", "show", DEVICE);
    const [device] = JSON.parse(text) as { stats64: Record<"rx" | "tx", { bytes: number }> }[];
    if (device === undefined) throw new Error(`no device ${DEVICE}`);
    return device.stats64.rx.bytes + device.stats64.tx.bytes;
  }

  /** Resolves once something listens on a TCP port of a side. */
  async listening(side: Side, port: number): Promise<void> {
    const needle = `:${port.toString(16).toUpperCase().padStart(4, "0")} 0`;
    const deadline = performance.now() + 20_000;
    const [program, args] = this.command(side, "cat", ["/proc/net/tcp", "/proc/net/tcp6"]);
    for (;;) {
      const { stdout } = spawnSync(program, args, { encoding: "utf8" });
      const lines = stdout.split("\n").filter((line) => / 0A /.test(line));
      if (lines.some((line) => line.includes(needle))) return;
      if (performance.now() > deadline) throw new Error(`nothing listens on port ${port}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  close(): void {
    process.off("exit", this.#onExit);
    this.#remove();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #remove(): void {
    for (const side of SIDES) removeNamespace(this.#names[side]);
    if (this.#relay?.pid !== undefined) kill(this.#relay.pid);
  }

  #ip(side: Side, ...args: readonly string[]): string {
    return must("ip", "-n", this.#names[side], ...args);
  }

  #joinByVeth(): void {
    const { sender, receiver } = this.#names;
    const peer = ["peer", "name", DEVICE, "netns", receiver];
    must("ip", "link", "add", DEVICE, "netns", sender, "type", "veth", ...peer);
    const { bitsPerSecond } = this.shape;
    if (bitsPerSecond === undefined || bitsPerSecond >= OFFLOAD_FROM) return;
    for (const side of SIDES) {
      const off = ["tso", "off", "gso", "off", "gro", "off"];
      must(...flat(this.command(side, "ethtool", ["-K", DEVICE, ...off])));
    }
  }

  async #joinByRelay(delay_ms: number): Promise<void> {
    const script = join(import.meta.dirname, "delay.pl");
    const { sender, receiver } = this.#names;
    this.#relay = spawn("perl", [script, sender, receiver, DEVICE, String(delay_ms)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const { stdout } = this.#relay;
    if (stdout === null) throw new Error("the relay has no output");
    await Promise.race([
      once(stdout, "data"),
      once(this.#relay, "exit").then(() => Promise.reject(new Error("the relay ended"))),
    ]);
  }

  #raise(side: Side): void {
    this.#ip(side, "address", "add", `${ADDRESSES[side]}/30`, "dev", DEVICE);
    this.#ip(side, "link", "set", DEVICE, "up");
    const { bitsPerSecond } = this.shape;
    if (bitsPerSecond === undefined) return;
    const burst = Math.max(4_000, Math.round(bitsPerSecond / 8 / 250));
    const shaping = ["rate", `${bitsPerSecond}bit`, "burst", String(burst), "latency", "100ms"];
    must("tc", "-n", this.#names[side], "qdisc", "add", "dev", DEVICE, "root", "tbf", ...shaping);
  }
}

function flat([program, args]: [string, string[]]): [string, ...string[]] {
  return [program, ...args];
}
