/**
 * The path between the two sides: a network namespace for each, and between them two devices of
 * which the routes choose one, a veth pair and the relay that delays every packet. So the path can be
 * given another rate and delay while what runs at its ends runs on. Needs root.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import {
  ADDRESSES,
  kill,
  must,
  OFFLOAD_FROM,
  PREFIX,
  removeNamespace,
  SIDES,
  type LinkShape,
  type Side,
} from "../transfer/link.ts";

const NEAR = "near0";
const FAR = "far0";
const DEVICES = [NEAR, FAR] as const;
const RELAY = join(import.meta.dirname, "../transfer/delay.pl");
/** One way. */
const DELAY_MS = 25;
export const ROUND_TRIP_MS = 2 * DELAY_MS;

const other = (side: Side): Side => (side === "sender" ? "receiver" : "sender");

export class Path {
  readonly #names: Readonly<Record<Side, string>>;
  readonly #onExit = (): void => this.close();
  #relay: ChildProcess | undefined;

  private constructor(name: string) {
    const stem = `${PREFIX}${process.pid}-${name}`;
    this.#names = { sender: `${stem}-a`, receiver: `${stem}-b` };
    process.on("exit", this.#onExit);
  }

  static async open(name: string): Promise<Path> {
    const path = new Path(name);
    try {
      await path.#join();
    } catch (error) {
      path.close();
      throw error;
    }
    return path;
  }

  /** The command that runs a program on one side. */
  command(side: Side, program: string, args: readonly string[]): [string, string[]] {
    return ["ip", ["netns", "exec", this.#names[side], program, ...args]];
  }

  /** Gives the path another rate, in each direction, and the delay of the relay or none. */
  shape({ bitsPerSecond, roundTrip_ms = 0 }: LinkShape): void {
    const device = roundTrip_ms === 0 ? NEAR : FAR;
    for (const side of SIDES) {
      const route = ["route", "replace", `${ADDRESSES[other(side)]}/32`, "dev", device];
      this.#ip(side, ...route, "src", ADDRESSES[side]);
      if (bitsPerSecond === undefined) continue;
      if (device === NEAR) this.#offload(side, bitsPerSecond >= OFFLOAD_FROM);
      const burst = Math.max(4_000, Math.round(bitsPerSecond / 8 / 250));
      const rate = ["rate", `${bitsPerSecond}bit`, "burst", String(burst), "latency", "100ms"];
      const discipline = ["qdisc", "replace", "dev", device, "root", "tbf", ...rate];
      must("tc", "-n", this.#names[side], ...discipline);
    }
  }

  /** Bytes of packets that crossed so far, in both directions, all headers included. */
  bytes(): number {
    return DEVICES.map((device) => {
      const text = this.#ip("sender", "-s", "-j", "link", "show", device);
      const [shown] = JSON.parse(text) as { stats64: Record<"rx" | "tx", { bytes: number }> }[];
      return (shown?.stats64.rx.bytes ?? Number.NaN) + (shown?.stats64.tx.bytes ?? 0);
    }).reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Ends whatever runs in it. */
  close(): void {
    process.off("exit", this.#onExit);
    for (const side of SIDES) removeNamespace(this.#names[side]);
    if (this.#relay?.pid !== undefined) kill(this.#relay.pid);
  }

  #ip(side: Side, ...args: readonly string[]): string {
    return must("ip", "-n", this.#names[side], ...args);
  }

  #offload(side: Side, on: boolean): void {
    const features = ["tso", "gso", "gro"].flatMap((name) => [name, on ? "on" : "off"]);
    const [program, args] = this.command(side, "ethtool", ["-K", NEAR, ...features]);
    must(program, ...args);
  }

  async #join(): Promise<void> {
    const { sender, receiver } = this.#names;
    for (const side of SIDES) {
      must("ip", "netns", "add", this.#names[side]);
      this.#ip(side, "link", "set", "lo", "up");
      this.#ip(side, "address", "add", `${ADDRESSES[side]}/32`, "dev", "lo");
    }
    const peer = ["peer", "name", NEAR, "netns", receiver];
    must("ip", "link", "add", NEAR, "netns", sender, "type", "veth", ...peer);
    this.#relay = spawn("perl", [RELAY, sender, receiver, FAR, String(DELAY_MS)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const { stdout } = this.#relay;
    if (stdout === null) throw new Error("the relay has no output");
    const ended = once(this.#relay, "exit").then(() => Promise.reject(new Error("no relay")));
    ended.catch(() => undefined);
    await Promise.race([once(stdout, "data"), ended]);
    for (const side of SIDES) {
      for (const device of DEVICES) this.#ip(side, "link", "set", device, "up");
    }
    this.shape({});
  }
}
