/**
 * The peer: two libvirt daemons, each in its side's network namespace with a private mount and UTS
 * namespace, so that each has its own state, host name and `/srv/bench`, at which a domain's files lie.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { chmodSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ADDRESSES, SIDES, type Side } from "../transfer/link.ts";
import { ended as endedWell, prepare } from "../transfer/scene.ts";
import { consoleTail, MEMORY_MIB, monolithIn, type Monolith } from "./guest.ts";
import type { Hosts, HostsRequest, Moved } from "./hosts.ts";
import type { Path } from "./path.ts";

/** Where each side's own directory is mounted for its daemon. */
const PLACE = "/srv/tessera-bench";
const STATE = ["/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt"];
const LOGS = "/var/log/libvirt";
/** The users that Debian's libvirt is compiled for, which only its service package makes. */
const USERS: Readonly<Record<string, string>> = {
  "/etc/passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin",
  "/etc/group": "libvirt-qemu:x:64055:",
};
const NAME = "bench";
const READY_S = 300;

/** RAM of a multiple of 256 KiB is corrupted by a live migration under TCG before QEMU 9.0. */
const KIB = MEMORY_MIB * 1024;
const WRAPPER = `#!/bin/bash
args=()
for word in "$@"; do
  [ "$last" = -m ] && word=size=${KIB + 8}K
  args+=("\${word/'"size":${KIB * 1024}'/'"size":${(KIB + 8) * 1024}'}")
  last=$word
done
exec /usr/bin/qemu-system-x86_64 "\${args[@]}"
`;

const domainXml = (uuid: string): string => `<domain type='qemu'>
  <name>${NAME}</name>
  <uuid>${uuid}</uuid>
  <memory unit='KiB'>${KIB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <kernel>${PLACE}/kernel</kernel>
    <initrd>${PLACE}/initramfs</initrd>
    <cmdline>quiet console=ttyS0</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='forbid'>Nehalem</model></cpu>
  <clock offset='utc'/>
  <devices>
    <emulator>${PLACE}/emulator</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap' detect_zeroes='unmap'/>
      <source file='${PLACE}/disk.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <interface type='user'><model type='virtio'/></interface>
    <serial type='file'><source path='${PLACE}/console' append='on'/><target port='0'/></serial>
    <serial type='file'><source path='${PLACE}/ready' append='on'/><target port='1'/></serial>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
    <video><model type='none'/></video>
  </devices>
</domain>
`;

const daemonConfiguration = (): string => `listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
host_uuid = "${randomUUID()}"
`;

const QEMU_CONFIGURATION = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`;

const otherOf = (side: Side): Side => (side === "sender" ? "receiver" : "sender");

class Daemon {
  readonly side: Side;
  /** Holds what is mounted for the daemon; `place` is what it sees at PLACE. */
  readonly place: string;
  readonly #root: string;
  readonly #path: Path;
  #child: ChildProcess | undefined;

  constructor(path: Path, directory: string, side: Side) {
    this.side = side;
    this.#path = path;
    this.#root = join(directory, side);
    this.place = join(this.#root, "place");
  }

  async start(): Promise<void> {
    rmSync(this.#root, { recursive: true, force: true });
    mkdirSync(this.place, { recursive: true });
    for (const directory of [...STATE, LOGS, PLACE]) prepare(`mkdir -p ${directory}`);
    const mounts = [...STATE, LOGS].map((target) => {
      const own = join(this.#root, target);
      mkdirSync(own, { recursive: true });
      return `mount --bind ${own} ${target}`;
    });
    for (const [file, line] of Object.entries(USERS)) {
      const own = join(this.#root, file);
      writeFileSync(own, `${readFileSync(file, "utf8")}${line}\n`);
      mounts.push(`mount --bind ${own} ${file}`);
    }
    const settings = join(this.#root, "etc/libvirt");
    writeFileSync(join(settings, "libvirtd.conf"), daemonConfiguration());
    writeFileSync(join(settings, "qemu.conf"), QEMU_CONFIGURATION);
    writeFileSync(join(this.place, "emulator"), WRAPPER);
    chmodSync(join(this.place, "emulator"), 0o755);
    const script = [
      "set -e",
      `hostname ${NAME}-${this.side}`,
      ...mounts,
      `mount --bind ${this.place} ${PLACE}`,
      `exec /usr/sbin/libvirtd --listen --pid-file ${join(this.#root, "pid")}`,
    ].join("\n");
    const apart = ["--mount", "--uts", "bash", "-c", script];
    const [program, args] = this.#path.command(this.side, "unshare", apart);
    const log = openSync(join(this.#root, "log"), "a");
    this.#child = spawn(program, args, { stdio: ["ignore", log, log] });
    await this.#answers();
  }

  async #answers(): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (this.virsh("domcapabilities", "--emulatorbin", `${PLACE}/emulator`).status !== 0) {
      if (this.#child?.exitCode !== null || performance.now() > deadline) {
        throw new Error(`no libvirtd: ${readFileSync(join(this.#root, "log"), "utf8")}`);
      }
      await sleep(200);
    }
  }

  #uri(): string {
    return `qemu+unix:///system?socket=${join(this.#root, "run/libvirt/libvirt-sock")}`;
  }

  #command(args: readonly string[]): [string, string[]] {
    return this.#path.command(this.side, "virsh", ["-q", "-c", this.#uri(), ...args]);
  }

  virsh(...args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
    const [program, all] = this.#command(args);
    return spawnSync(program, all, { encoding: "utf8" });
  }

  must(...args: readonly string[]): string {
    const { status, stdout, stderr } = this.virsh(...args);
    if (status !== 0) throw new Error(`virsh ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  start_virsh(...args: readonly string[]): ChildProcess {
    const [program, all] = this.#command(args);
    return spawn(program, all, { stdio: ["ignore", "ignore", "pipe"] });
  }

  async stop(): Promise<void> {
    this.virsh("destroy", NAME);
    const child = this.#child;
    if (child === undefined || child.exitCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await gone;
  }
}

/** The disk at a side before a migration: empty, or on the base that was placed there by hand. */
function makeDisk({ place }: Daemon, monolith: Monolith, isOverlay: boolean): void {
  const base = isOverlay ? `-b ${PLACE}/base.raw -F raw -u` : "";
  prepare(
    `rm -f ${place}/disk.qcow2; qemu-img create -q -f qcow2 ${base} ${place}/disk.qcow2 ${monolith.sizeBytes}`,
  );
}

function completed(words: string): number | undefined {
  const downtime = /^Total downtime:\s+(\d+)/m.exec(words)?.[1];
  return downtime === undefined ? undefined : Number(downtime);
}

export class LibvirtHosts implements Hosts {
  readonly consoles: readonly string[];
  readonly #daemons: Readonly<Record<Side, Daemon>>;
  readonly #isOverlay: boolean;
  readonly #monolith: Monolith;
  #at: Side = "sender";

  private constructor(daemons: Record<Side, Daemon>, monolith: Monolith, isOverlay: boolean) {
    this.#daemons = daemons;
    this.#monolith = monolith;
    this.#isOverlay = isOverlay;
    this.consoles = SIDES.map((side) => join(daemons[side].place, "console"));
  }

  /** Boots the guest at the sending side. @param isOverlay its disk is on a base that both hold */
  static async start(request: HostsRequest, isOverlay: boolean): Promise<LibvirtHosts> {
    const { path, directory, cache } = request;
    const monolith = await monolithIn(cache);
    const make = (side: Side): Daemon => new Daemon(path, directory, side);
    const daemons = { sender: make("sender"), receiver: make("receiver") };
    const hosts = new LibvirtHosts(daemons, monolith, isOverlay);
    try {
      await hosts.#boot();
      return hosts;
    } catch (error) {
      await hosts.close();
      throw error;
    }
  }

  async #boot(): Promise<void> {
    const { kernelPath, initramfsPath, diskPath } = this.#monolith;
    for (const side of SIDES) {
      const daemon = this.#daemons[side];
      await daemon.start();
      prepare(
        `cp ${kernelPath} ${daemon.place}/kernel; cp ${initramfsPath} ${daemon.place}/initramfs`,
      );
      if (this.#isOverlay) prepare(`cp --sparse=always ${diskPath} ${daemon.place}/base.raw`);
      writeFileSync(join(daemon.place, "ready"), "");
    }
    const { sender } = this.#daemons;
    if (this.#isOverlay) makeDisk(sender, this.#monolith, true);
    else prepare(`qemu-img convert -f raw -O qcow2 ${diskPath} ${sender.place}/disk.qcow2`);
    const xml = join(sender.place, "domain.xml");
    writeFileSync(xml, domainXml(randomUUID()));
    sender.must("create", xml);
    await this.#ready(sender);
  }

  async #ready({ place }: Daemon): Promise<void> {
    const deadline = performance.now() + READY_S * 1000;
    while (!readFileSync(join(place, "ready"), "utf8").includes("ready ")) {
      if (performance.now() > deadline) {
        throw new Error(`the guest does not get ready: ${consoleTail(join(place, "console"))}`);
      }
      await sleep(200);
    }
  }

  async move(limit_s: number): Promise<Moved> {
    const source = this.#daemons[this.#at];
    const destination = this.#daemons[otherOf(this.#at)];
    makeDisk(destination, this.#monolith, this.#isOverlay);
    const address = ADDRESSES[destination.side];
    const storage = this.#isOverlay ? "--copy-storage-inc" : "--copy-storage-all";
    const begin = performance.now();
    const command = ["migrate", "--live", storage, NAME, `qemu+tcp://${address}/system`];
    const child = source.start_virsh(...command, `tcp://${address}`);
    const timer = setTimeout(() => source.virsh("domjobabort", NAME), limit_s * 1000);
    let words = "";
    try {
      await endedWell(child, "virsh migrate");
    } catch (error) {
      words = error instanceof Error ? error.message : String(error);
    } finally {
      clearTimeout(timer);
    }
    const seconds = (performance.now() - begin) / 1000;
    if (words !== "") return { ended: false, seconds, words };
    this.#at = destination.side;
    const told = destination.virsh("domjobinfo", NAME, "--completed").stdout;
    const downtime_ms = completed(told);
    return { ended: true, seconds, ...(downtime_ms === undefined ? {} : { downtime_ms }) };
  }

  async close(): Promise<void> {
    for (const side of SIDES) await this.#daemons[side].stop();
  }
}
