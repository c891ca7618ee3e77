/** Speeds on loopback, and copying on one machine. */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { BUILD } from "./measure.ts";
import { childrenCpu_s, prepare } from "./scene.ts";

export interface Throughput {
  readonly ours_MBps: number;
  readonly peer_MBps: number;
  /** Of both sides, per GB. */
  readonly oursCpu_s: number;
  readonly peerCpu_s: number;
}

const SHM = "/dev/shm";
const MIB = 1024;
const ROUNDS = 3;

interface Ours {
  readonly MBps: number;
  readonly senderCpuPerGB: number;
  readonly receiverCpuPerGB: number;
}

function ours(what: string): Ours {
  const program = join(import.meta.dirname, "..", "throughput.ts");
  const args = [program, "--mib", String(MIB), "--case", what, "--dir", SHM];
  const { status, stdout } = spawnSync(process.execPath, args, {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [result] = status === 0 ? (JSON.parse(stdout) as Ours[]) : [];
  if (result === undefined) throw new Error(`throughput.ts ended with ${String(status)}`);
  return result;
}

/** Runs the peer's two sides by shell; the clock runs for `fetch` alone. */
interface Peer {
  /** What listens; ends by a signal or with its peer. */
  readonly serve: string;
  readonly port: number;
  readonly fetch: string;
}

const PORT = 17_000;
const RANDOM = `head -c ${MIB * 2 ** 20} /dev/zero | openssl enc -aes-128-ctr -K 01 -iv 00 2>/dev/null`;
const CODE = `for i in $(seq 64); do cat ${process.execPath}; done 2>/dev/null | head -c ${MIB * 2 ** 20}`;

const PEERS: Readonly<Record<string, { case_: string; make: string; peer(dir: string): Peer }>> = {
  nbdcopy: {
    case_: "discard",
    make: RANDOM,
    peer: (dir) => ({
      serve: `exec nbdkit --foreground --readonly --tls=require --tls-certificates=${dir}/tls -i 127.0.0.1 -p ${PORT} file ${dir}/sent`,
      port: PORT,
      fetch: `nbdcopy 'nbds://localhost:${PORT}/?tls-certificates=${dir}/tls' null:`,
    }),
  },
  "rsync-ssh": {
    case_: "repository",
    make: RANDOM,
    peer: (dir) => ({
      serve: `exec /usr/sbin/sshd -D -e -f ${dir}/sshd_config`,
      port: PORT,
      fetch: `rsync --whole-file -e 'ssh -p ${PORT} -i ${dir}/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR' root@127.0.0.1:${dir}/sent ${dir}/received`,
    }),
  },
  "zstd-socat": {
    case_: "compressible",
    make: CODE,
    peer: (dir) => ({
      serve: `socat -u -b 262144 TCP-LISTEN:${PORT},reuseaddr,bind=127.0.0.1 - | zstd -q -d -c > /dev/null; echo done > ${dir}/ended`,
      port: PORT,
      fetch: `zstd -q -3 -c ${dir}/sent | socat -u -b 262144 - TCP:127.0.0.1:${PORT}; while [ ! -e ${dir}/ended ]; do sleep 0.01; done; rm ${dir}/ended`,
    }),
  },
};

function makeKeys(dir: string): void {
  const subject = "-subj /CN=localhost -addext subjectAltName=DNS:localhost";
  const tls = `${dir}/tls`;
  prepare(`mkdir ${tls}; cd ${tls}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca-key.pem -out ca-cert.pem -subj /CN=bench 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout server-key.pem -out server.csr ${subject} 2>/dev/null
openssl x509 -req -in server.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -copy_extensions copy -out server-cert.pem 2>/dev/null
ssh-keygen -q -t ed25519 -N '' -f ${dir}/host; ssh-keygen -q -t ed25519 -N '' -f ${dir}/user
mkdir -p /run/sshd
printf '%s\\n' 'Port ${PORT}' 'ListenAddress 127.0.0.1' 'HostKey ${dir}/host' 'AuthorizedKeysFile ${dir}/user.pub' 'StrictModes no' 'PidFile none' 'UsePAM no' > ${dir}/sshd_config`);
}

async function listening(port: number): Promise<void> {
  const needle = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  const deadline = performance.now() + 10_000;
  while (!spawnSync("cat", ["/proc/net/tcp"], { encoding: "utf8" }).stdout.includes(needle)) {
    if (performance.now() > deadline) throw new Error(`nothing listens on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

interface Round {
  readonly MBps: number;
  readonly cpuPerGB: number;
}

async function peerRound({ serve, port, fetch }: Peer): Promise<Round> {
  const before = childrenCpu_s();
  const server = spawn("bash", ["-c", serve], { stdio: "ignore" });
  const ended = new Promise((resolve) => server.once("close", resolve));
  try {
    await listening(port);
    const begin = performance.now();
    prepare(fetch);
    const seconds = (performance.now() - begin) / 1000;
    server.kill("SIGTERM");
    await ended;
    const GB = (MIB * 2 ** 20) / 1e9;
    return { MBps: (GB * 1000) / seconds, cpuPerGB: (childrenCpu_s() - before) / GB };
  } finally {
    server.kill("SIGTERM");
  }
}

/** The best of some rounds of each: others on the machine only ever slow a round down. */
export async function throughput(name: string): Promise<Throughput> {
  const peer = PEERS[name];
  if (peer === undefined) throw new Error(`no peer ${name}`);
  const dir = mkdtempSync(join(SHM, "tessera-bench-"));
  try {
    makeKeys(dir);
    prepare(`set +o pipefail; ${peer.make} > ${dir}/sent`);
    const rounds: Round[] = [];
    const own: Ours[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      rounds.push(await peerRound(peer.peer(dir)));
      own.push(ours(peer.case_));
    }
    const [theirs] = rounds.toSorted((a, b) => b.MBps - a.MBps);
    const [best] = own.toSorted((a, b) => b.MBps - a.MBps);
    if (theirs === undefined || best === undefined) throw new Error("no rounds");
    return {
      ours_MBps: best.MBps,
      peer_MBps: theirs.MBps,
      oursCpu_s: best.senderCpuPerGB + best.receiverCpuPerGB,
      peerCpu_s: theirs.cpuPerGB,
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Seconds for `cp` and `sha256sum` of a file, without and with a sync between them. */
export function copyAndHash(path: string): {
  readonly plain_s: number;
  readonly synced_s: number;
  readonly sizeBytes: number;
} {
  mkdirSync(join(BUILD, "target"), { recursive: true });
  const directory = mkdtempSync(join(BUILD, "target", "copy-"));
  const timed = (script: string): number => {
    prepare(`cat ${path} > /dev/null; sync`);
    const begin = performance.now();
    prepare(script);
    return (performance.now() - begin) / 1000;
  };
  const copy = `cp --reflink=never ${path} ${directory}/image`;
  const hash = `sha256sum ${directory}/image`;
  try {
    const rounds = Array.from({ length: ROUNDS }, () => {
      const plain = timed(`${copy}; ${hash}`);
      rmSync(join(directory, "image"));
      const synced = timed(`${copy}; sync ${directory}/image; ${hash}`);
      rmSync(join(directory, "image"));
      return [plain, synced] as const;
    });
    const best = (index: 0 | 1): number => Math.min(...rounds.map((round) => round[index]));
    return { plain_s: best(0), synced_s: best(1), sizeBytes: statSync(path).size };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
