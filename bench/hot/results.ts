/** The rows of `bench/results/hot.json` that the grid gives. */
import { rowOf, type Row } from "../rows.ts";
import { placeId, type Measure, type Place, type System } from "./grid.ts";
import { LOADS } from "./loads.ts";

const WHERE =
  "TCG guest of 320 MiB (Debian 12 without systemd, redis), network namespaces, tc tbf; counted at the interface, both directions, all headers";
const ALL = "`virsh migrate --live --copy-storage-all` of the same machine as one monolithic disk";
const INC = "`virsh migrate --live --copy-storage-inc`, the base placed by hand at both ends";
const PEERS: Readonly<Partial<Record<System, string>>> = { "libvirt-all": ALL, "libvirt-inc": INC };

/** The same guest over the same path, moved by us and by a peer. */
interface Pair {
  readonly place: Place;
  readonly ours: Measure;
  readonly peer: Measure;
}

function pairs(measures: readonly Measure[], ours: System, peer: System): Pair[] {
  const theirs = measures.filter(({ system }) => system === peer);
  return theirs.flatMap((one) => {
    const own = measures.find((each) => each.system === ours && placeId(each) === placeId(one));
    return own === undefined ? [] : [{ place: one, ours: own, peer: one }];
  });
}

function about({ load, mbit, roundTrip_ms }: Place): string {
  const delay = roundTrip_ms === 0 ? "" : ` and ${roundTrip_ms} ms of added round trip`;
  return `${LOADS[load].title} over ${mbit} Mbit/s${delay}`;
}

/** What a pair is compared by. */
interface Aspect {
  readonly id: string;
  readonly target: string;
  readonly unit: string;
  readonly how: string;
  readonly ours?: System;
  readonly peer: System;
  /** Places that count for the target; absent for all. */
  readonly where?: (place: Place) => boolean;
  readonly of: (measure: Measure) => number | undefined;
}

const TIME = "from the command until it says that all is done";
const GAP = "largest time without a tick of the guest's 10 ms ticks, as it leaves its console";

const ASPECTS: readonly Aspect[] = [
  {
    id: "bytes-vs-libvirt-all",
    target: "<= 0.25",
    unit: "bytes",
    how: WHERE,
    peer: "libvirt-all",
    of: ({ bytes }) => bytes,
  },
  {
    id: "bytes-vs-libvirt-inc",
    target: "<= 0.6",
    unit: "bytes",
    how: WHERE,
    peer: "libvirt-inc",
    of: ({ bytes }) => bytes,
  },
  {
    id: "return-bytes-vs-libvirt-inc",
    target: "<= 0.3",
    unit: "bytes",
    how: `ours on the way back, 15 s after the machine had come; ${WHERE}`,
    ours: "ours-return",
    peer: "libvirt-inc",
    of: ({ bytes }) => bytes,
  },
  {
    id: "time-vs-libvirt-inc",
    target: "<= 0.7",
    unit: "s",
    how: TIME,
    peer: "libvirt-inc",
    where: ({ mbit }) => mbit <= 100,
    of: ({ seconds }) => seconds,
  },
  {
    id: "downtime-vs-libvirt",
    target: "<= 1.0",
    unit: "ms",
    how: GAP,
    peer: "libvirt-inc",
    of: ({ gap_ms }) => gap_ms,
  },
  {
    id: "downtime-as-told",
    target: "none",
    unit: "ms",
    how: "ours by the receipt (off at the source to on at the destination), the peer by `virsh domjobinfo --completed`",
    peer: "libvirt-inc",
    of: ({ downtime_ms }) => downtime_ms,
  },
  {
    id: "ticks-while-migrating",
    target: "none",
    unit: "of those before",
    how: "ticks of the guest while it is migrated, the pause included, by those of the seconds before",
    peer: "libvirt-inc",
    of: ({ ticksMeanwhile, ticksBefore }) => ticksMeanwhile / ticksBefore,
  },
];

/** A row for each place, and before them the worst, which is the one with the target's name. */
function rowsOf(aspect: Aspect, measures: readonly Measure[]): Row[] {
  const { id, target, unit, how, ours = "ours", peer, where = () => true, of } = aspect;
  const rows = pairs(measures, ours, peer).flatMap((pair) => {
    const [own, theirs] = [of(pair.ours), of(pair.peer)];
    if (!pair.ours.ended || !pair.peer.ended || own === undefined || theirs === undefined)
      return [];
    const counts = where(pair.place);
    const text = `${about(pair.place)}; ${how}; peer ${PEERS[peer]}`;
    const figures = { ours: own, peer: theirs, target: counts ? target : "none", unit, how: text };
    return [{ counts, row: rowOf(`${id}-${placeId(pair.place)}`, figures) }];
  });
  if (target === "none") return rows.map(({ row }) => row);
  const counted = rows.filter(({ counts }) => counts).map(({ row }) => row);
  const [worst] = counted.toSorted((a, b) => b.ratio - a.ratio);
  if (worst === undefined) return rows.map(({ row }) => row);
  const head = { ...worst, id, how: `the worst of ${counted.length}: ${worst.how}` };
  return [head, ...rows.map(({ row }) => row)];
}

function ending({ ended, seconds }: Measure): string {
  return ended ? "ended" : `did not end in ${seconds.toFixed(0)} s`;
}

function ends(id: string, place: string, measures: readonly Measure[]): Row[] {
  const pair = pairs(measures, "ours", "libvirt-inc").find((one) => placeId(one.place) === place);
  if (pair === undefined) return [];
  const { ours, peer } = pair;
  const how = `${about(pair.place)}: ours ${ending(ours)}, the peer ${ending(peer)}; seconds until the end or until it was given up; peer ${INC}`;
  const target = ours.ended ? "ours ends" : "ours ends: MISSED";
  return [rowOf(id, { ours: ours.seconds, peer: peer.seconds, target, unit: "s", how })];
}

/** What our agents take, from the cells that were measured. */
function costs(measures: readonly Measure[]): Row[] {
  const own = measures.filter(({ system, ended, more }) => {
    return system === "ours" && ended && more !== undefined;
  });
  return own.flatMap((measure) => {
    const { seconds, more = {} } = measure;
    const where = about(measure);
    const cpu = rowOf(`agent-cpu-${placeId(measure)}`, {
      ours: more["cpu_s"] ?? Number.NaN,
      peer: seconds,
      target: "none",
      unit: "s",
      how: `${where}: processor time of both agents, by the time that the migration took`,
    });
    const memory = rowOf(`agent-memory-${placeId(measure)}`, {
      ours: more["peakMiB"] ?? Number.NaN,
      peer: 512,
      target: "none",
      unit: "MiB",
      how: `${where}: peak resident memory of the larger agent, by 512 MiB`,
    });
    return [cpu, memory];
  });
}

/** Memory's bytes on the wire, by those of the hypervisor's stream. */
function memory(measures: readonly Measure[]): Row[] {
  const rows = measures.flatMap((measure) => {
    const { system, more = {} } = measure;
    const [wire, raw] = [more["hot.memory.wireBytes"], more["hot.memory.rawBytes"]];
    if (system !== "ours" || wire === undefined || raw === undefined) return [];
    const how = `${about(measure)}: memory on the wire by the hypervisor's stream, as the receipt has them`;
    const target = measure.load === "idle" || measure.load === "warm" ? "<= 0.25" : "<= 0.6";
    const figures = { ours: wire, peer: raw, target, unit: "bytes", how };
    return [rowOf(`memory-by-reference-${placeId(measure)}`, figures)];
  });
  const warm = rows.find(({ id }) => id === "memory-by-reference-warm-100mbit");
  return warm === undefined ? rows : [{ ...warm, id: "memory-by-reference" }, ...rows];
}

/** All rows that the measures so far allow. */
export function gridRows(measures: readonly Measure[]): Row[] {
  return [
    ...ASPECTS.flatMap((aspect) => rowsOf(aspect, measures)),
    ...ends("ends-20MBs-100Mbit", "dirty20-100mbit", measures),
    ...ends("ends-heavy-writer", "write50-100mbit", measures),
    ...memory(measures),
    ...costs(measures),
  ];
}
