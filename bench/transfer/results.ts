/** The rows of `bench/results/transfer.json`, each with what it needs to be measured. */
import { cpus } from "node:os";
import { ABOUT, PAIRS, predictedBytes, toolOf, type Measurements, type PairName } from "./plan.ts";
import { rowOf as row, type Row } from "../rows.ts";
import type { Measure } from "./scene.ts";
import { copyAndHash, throughput, type Throughput } from "./local.ts";

const SLOW = 2e6;
const RATES = [2e6, 20e6, 200e6, 1000e6];
/**
 * At this rate peers' bytes are counted where waiting at the slow one would take long: their options
 * do not depend on it, and there are rather fewer acknowledgements.
 */
const COUNTED = 20e6;

const LINK = "veth between network namespaces, tc tbf";
const COUNT = `bytes at the interface, both directions, all headers; ${LINK}`;
const TIME =
  "from the start until the file is written, synced and its sha256 known (openssl for peers; ours verifies itself)";

/** One maker of rows: what `--only` names. */
export interface Maker {
  readonly ids: readonly string[];
  rows(measurements: Measurements): Promise<Row[]>;
}

function atRate(bitsPerSecond: number): string {
  return `${bitsPerSecond / 1e6} Mbit/s`;
}

function bytesAgainst(id: string, pair: PairName, peer: string, target: string): Maker {
  return {
    ids: [id],
    async rows(measurements) {
      const tool = toolOf(peer);
      const ours = await measurements.ours(PAIRS[pair], { bitsPerSecond: SLOW });
      const theirs = await measurements.of(tool, PAIRS[pair], { bitsPerSecond: COUNTED });
      const how = `${ABOUT[pair]}; ours at ${atRate(SLOW)}, peer ${tool.how} at ${atRate(COUNTED)}; ${COUNT}`;
      return [row(id, { ours: ours.bytes, peer: theirs.bytes, target, unit: "bytes", how })];
    },
  };
}

const ADDITION_PEERS = ["zstd-19-patch-from", "xdelta3-9", "skopeo"];

/** The peer with the fewest bytes for an addition. */
async function leanest(measurements: Measurements, pair: PairName): Promise<Measure> {
  const shape = { bitsPerSecond: COUNTED };
  const all: Measure[] = [];
  for (const name of ADDITION_PEERS) {
    all.push(await measurements.of(toolOf(name), PAIRS[pair], shape));
  }
  return all.reduce((one, other) => (other.bytes < one.bytes ? other : one));
}

const ADDITIONS: Maker = {
  ids: ["add-vs-best-peer", "add-p1-bytes", "add-p2-bytes"],
  async rows(measurements) {
    const rows: Row[] = [];
    for (const pair of ["P1", "P2"] as const) {
      const ours = await measurements.ours(PAIRS[pair], { bitsPerSecond: SLOW });
      const best = await leanest(measurements, pair);
      const how = `${ABOUT[pair]}; ours at ${atRate(SLOW)}; peer ${toolOf(best.tool).how}, the leanest of ${ADDITION_PEERS.join(", ")}, at ${atRate(COUNTED)}; ${COUNT}`;
      const figures = { ours: ours.bytes, peer: best.bytes, target: "<= 1.0", unit: "bytes", how };
      rows.push(row(`add-${pair.toLowerCase()}-bytes`, figures));
    }
    const [worst] = rows.toSorted((a, b) => b.ratio - a.ratio);
    if (worst === undefined) return rows;
    return [
      { ...worst, id: "add-vs-best-peer", how: `the worse of P1 and P2: ${worst.how}` },
      ...rows,
    ];
  },
};

/** Whole times of a pair at every rate, cold and with packs that were made before. */
async function timeRows(
  measurements: Measurements,
  pair: PairName,
  id: string,
  target: string,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const bitsPerSecond of RATES) {
    const ours = await measurements.ours(PAIRS[pair], { bitsPerSecond });
    const cached = await measurements.of(toolOf("ours-cached"), PAIRS[pair], { bitsPerSecond });
    const best = await measurements.fastest(PAIRS[pair], bitsPerSecond);
    const how = `${ABOUT[pair]}; ${atRate(bitsPerSecond)} ${LINK}; ${TIME}; peer ${toolOf(best.tool).how}, the fastest of all at this rate`;
    const name = `${id}-${bitsPerSecond / 1e6}mbit`;
    const common = { peer: best.seconds, target, unit: "s" };
    const cold = `${how}; nothing made before, compression counted`;
    rows.push(row(name, { ...common, ours: ours.seconds, how: cold }));
    const warm = `${how}; ours with packs made before for another destination`;
    rows.push(
      row(`${name}-cached`, { ...common, ours: cached.seconds, target: "none", how: warm }),
    );
  }
  return rows;
}

const UPDATE_TIME: Maker = {
  ids: ["update-time-vs-fastest-peer"],
  async rows(measurements) {
    const rows = await timeRows(measurements, "P3", "update-time", "<= 0.6");
    const cold = rows.filter(({ id }) => !id.endsWith("-cached"));
    const [worst] = cold.toSorted((a, b) => b.ratio - a.ratio);
    if (worst === undefined) return rows;
    const how = `the worst of ${RATES.map(atRate).join(", ")}: ${worst.how}`;
    return [{ ...worst, id: "update-time-vs-fastest-peer", how }, ...rows];
  },
};

const ADDITION_TIME: Maker = {
  ids: ["add-time"],
  rows: (measurements) => timeRows(measurements, "P1", "add-time-p1", "<= 1.0"),
};

/** Half as much as predicted is as wrong as twice as much. */
function errorOf({ ratio }: Row): number {
  return Math.abs(Math.log(ratio));
}

const PLAN: Maker = {
  ids: ["plan-accuracy"],
  async rows(measurements) {
    const rows: Row[] = [];
    const cases = [
      ["P3", 2e6],
      ["P3", 20e6],
      ["P3", 200e6],
      ["P1", 2e6],
    ] as const;
    for (const [pair, bitsPerSecond] of cases) {
      const ours = predictedBytes(PAIRS[pair], bitsPerSecond);
      const { bytes } = await measurements.ours(PAIRS[pair], { bitsPerSecond });
      const how = `${ABOUT[pair]}, ${atRate(bitsPerSecond)}, no pack made before: predicted against what then moved; ${COUNT}`;
      const id = `plan-accuracy-${pair.toLowerCase()}-${bitsPerSecond / 1e6}mbit`;
      rows.push(row(id, { ours, peer: bytes, target: "0.9 to 1.1", unit: "bytes", how }));
    }
    const [worst] = rows.toSorted((a, b) => errorOf(b) - errorOf(a));
    if (worst === undefined) return rows;
    return [
      { ...worst, id: "plan-accuracy", how: `the worst of ${rows.length}: ${worst.how}` },
      ...rows,
    ];
  },
};

const DELAY: Maker = {
  ids: ["delay-cost"],
  async rows(measurements) {
    const rows: Row[] = [];
    for (const [pair, bitsPerSecond] of [
      ["P3", 20e6],
      ["P1", 20e6],
      ["cold", 100e6],
    ] as const) {
      const far = await measurements.ours(PAIRS[pair], { bitsPerSecond, roundTrip_ms: 150 });
      const near = await measurements.ours(PAIRS[pair], { bitsPerSecond, roundTrip_ms: 0 });
      const how = `${ABOUT[pair]}; ours with 150 ms added to the round trip against ours with 0, by a packet relay over TUN devices at ${atRate(bitsPerSecond)}; ${TIME}`;
      const figures = { ours: far.seconds, peer: near.seconds, target: "<= 1.15", unit: "s", how };
      rows.push(row(`delay-cost-${pair.toLowerCase()}-${bitsPerSecond / 1e6}mbit`, figures));
    }
    const [first] = rows;
    return first === undefined ? rows : [{ ...first, id: "delay-cost" }, ...rows];
  },
};

function speed(id: string, target: string, case_: Throughput, how: string): Row {
  const figures = { ours: case_.ours_MBps, peer: case_.peer_MBps, target, unit: "MB/s" };
  return row(id, { ...figures, how: `${how}; ${cpus().length} processors for both sides` });
}

function cpuPerGB(id: string, case_: Throughput, how: string): Row {
  const figures = { ours: case_.oursCpu_s, peer: case_.peerCpu_s, target: "none", unit: "s/GB" };
  return row(id, { ...figures, how: `processor time of both sides per GB; ${how}` });
}

const THROUGHPUT: Maker = {
  ids: ["tls-vs-nbdcopy", "tls-vs-rsync-ssh", "compressed-vs-zstd-socat"],
  async rows() {
    const cases = [
      [
        "tls-vs-nbdcopy",
        ">= 0.8",
        "nbdcopy",
        "1 GiB of random bytes from tmpfs, received and forgotten, loopback, TLS 1.3: nbdcopy from nbdkit file to null:",
      ],
      [
        "tls-vs-rsync-ssh",
        ">= 1.2",
        "rsync-ssh",
        "1 GiB of random bytes, tmpfs to tmpfs, loopback; ours hashed and committed to a repository; rsync --whole-file over ssh with its usual cipher",
      ],
      [
        "compressed-vs-zstd-socat",
        ">= 1.0",
        "zstd-socat",
        "1 GiB of program code from tmpfs, received and forgotten, loopback; ours over TLS at the level that it chooses, peer zstd -3 | socat | zstd -d",
      ],
    ] as const;
    const rows: Row[] = [];
    for (const [id, target, peer, how] of cases) {
      const measured = await throughput(peer);
      rows.push(speed(id, target, measured, how), cpuPerGB(`${id}-cpu`, measured, how));
    }
    return rows;
  },
};

const RECEIVE: Maker = {
  ids: ["receive-vs-cp-sha256"],
  async rows(measurements) {
    const { seconds, more } = await measurements.ours(PAIRS.cold);
    const { plain_s, synced_s, sizeBytes } = copyAndHash(`${PAIRS.cold.new}/image`);
    const what = `${Math.round(sizeBytes / 1e6)} MB component that the receiver holds nothing of, over an unlimited veth pair with TLS, made durable and verified`;
    const ours = more?.["seconds"] ?? seconds;
    const common = { ours, target: "<= 2.0", unit: "s" };
    return [
      row("receive-vs-cp-sha256", {
        ...common,
        peer: plain_s,
        how: `${what}; peer cp and sha256sum of the image, not synced, warm cache`,
      }),
      row("receive-vs-cp-sync-sha256", {
        ...common,
        target: "none",
        peer: synced_s,
        how: `${what}; peer cp, sync and sha256sum of the image, warm cache`,
      }),
    ];
  },
};

const MEMORY_MIB_MAX = 512;

const MEMORY: Maker = {
  ids: ["memory"],
  async rows(measurements) {
    const rows: Row[] = [];
    for (const bitsPerSecond of [SLOW, 200e6]) {
      const max = bitsPerSecond > 20e6 ? MEMORY_MIB_MAX / 2 : MEMORY_MIB_MAX;
      const { more } = await measurements.ours(PAIRS.P3, { bitsPerSecond });
      for (const side of ["sender", "receiver"]) {
        const how = `${ABOUT.P3}, ${atRate(bitsPerSecond)}: peak resident memory of the ${side}'s process against the bound`;
        const ours = more?.[`${side}PeakMiB`] ?? Number.NaN;
        const id = `memory-${side}-${bitsPerSecond / 1e6}mbit`;
        rows.push(row(id, { ours, peer: max, target: "<= 1.0", unit: "MiB", how }));
        const grown = ours - (more?.[`${side}RestMiB`] ?? Number.NaN);
        const growth = `${how}; only what it takes beyond what it has at rest, with its repository open`;
        const figures = { ours: grown, peer: max, target: "<= 1.0", unit: "MiB", how: growth };
        rows.push(row(`${id}-growth`, figures));
      }
    }
    return rows;
  },
};

/** Further pairs, for which no target is set. */
function extra(id: string, pair: PairName): Maker {
  return {
    ids: [id],
    async rows(measurements) {
      const ours = await measurements.ours(PAIRS[pair], { bitsPerSecond: COUNTED });
      const rows: Row[] = [];
      for (const name of ["rsync-tuned", "xdelta3-9", "zstd-9-patch-from"]) {
        const tool = toolOf(name);
        const theirs = await measurements.of(tool, PAIRS[pair], { bitsPerSecond: COUNTED });
        const how = `${ABOUT[pair]}; ours and peer ${tool.how} at ${atRate(COUNTED)}; ${COUNT}`;
        const figures = {
          ours: ours.bytes,
          peer: theirs.bytes,
          target: "none",
          unit: "bytes",
          how,
        };
        rows.push(row(`${id}-vs-${name}`, figures));
      }
      return rows;
    },
  };
}

/** In this order; those that need least time come first. */
export const MAKERS: readonly Maker[] = [
  RECEIVE,
  THROUGHPUT,
  bytesAgainst("update-vs-rsync-tuned", "P3", "rsync-tuned", "<= 0.45"),
  bytesAgainst("update-vs-casync", "P3", "casync", "<= 0.25"),
  bytesAgainst("update-vs-zstd-patch-from", "P3", "zstd-19-patch-from", "<= 0.85"),
  ADDITIONS,
  bytesAgainst("data-vs-rsync-tuned", "disk", "rsync-tuned", "<= 0.85"),
  bytesAgainst("data-vs-rsync-default", "disk", "rsync", "<= 0.3"),
  PLAN,
  UPDATE_TIME,
  ADDITION_TIME,
  DELAY,
  MEMORY,
  extra("kernel", "kernel"),
  extra("release", "P4"),
];
