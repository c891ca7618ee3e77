import type { Handlers, Output } from "#api";
import { totalLength, type Machine } from "#core";
import { advise, PLACEMENT_SETTINGS, type Neighbour, type Resident } from "#placement";
import type { Parts } from "./parts.ts";

type AdviceOperations = Pick<Handlers, "advice.make">;

/** Where neither cloud tells its link, in bits per second. */
const RATE_ASSUMED = 100e6;
/** Stop and boot of a machine, before any migration has told. */
const STOP_AND_BOOT_S = 30;

export function adviceHandlers(parts: Parts): AdviceOperations {
  return {
    "advice.make": async ({ policy = "selective" }) => {
      const { config, loads, transport } = parts;
      const offers = transport.peers().flatMap(({ offer }) => (offer === undefined ? [] : [offer]));
      const neighbours = offers.map((offer): Neighbour => {
        const load = loads.other(offer);
        return load === undefined ? { offer } : { offer, load };
      });
      const linkRate = config.link ?? RATE_ASSUMED;
      const { residents, names, unknown } = await residentsOf(parts, linkRate);
      const { egressPricePerGB } = config;
      const here = loads.here();
      const advised = advise(
        { policy, here, egressPricePerGB, residents, neighbours, linkRate },
        PLACEMENT_SETTINGS,
      );
      const machines = [...advised.machines, ...unknown].map((each) => ({
        ...each,
        name: names.get(each.machine) ?? each.machine,
      }));
      const { sends, reason } = advised;
      return { policy, load: here.load, sends, reason, machines } satisfies Output<"advice.make">;
    },
  };
}

async function residentsOf(parts: Parts, linkRate: number) {
  const machines = (await parts.machines.list()).filter(({ state }) => state === "running");
  const names = new Map(machines.map(({ uuid, name }) => [uuid, name]));
  const found = await Promise.all(machines.map((machine) => residentOf(parts, machine, linkRate)));
  const residents = found.filter((each) => each !== undefined);
  const known = new Set(residents.map(({ machine }) => machine));
  const reasons = ["it has not been observed for long enough"];
  const unknown = machines
    .filter(({ uuid }) => !known.has(uuid))
    .map(({ uuid }) => ({ machine: uuid, reasons }));
  return { residents, names, unknown };
}

async function residentOf(
  parts: Parts,
  { uuid, appliance }: Machine,
  linkRate: number,
): Promise<Resident | undefined> {
  const { config, loads, machines, world } = parts;
  const load = loads.guest(uuid);
  if (load === undefined) return undefined;
  const device = await machines.openData(uuid);
  let allocatedBytes: number;
  try {
    allocatedBytes = totalLength(await device.allocated());
  } finally {
    await device.close();
  }
  const link = config.link === undefined ? {} : { linkRate: config.link };
  const edges_s = stopAndBoot_s(parts);
  return {
    machine: uuid,
    ...load,
    request: { appliance, allocatedBytes, now_ms: world.clock.now(), ...link },
    downtime_s: (_to, bytes) => edges_s + (bytes * 8) / linkRate,
  };
}

/** The mean of the migrations that this cloud took part in. */
function stopAndBoot_s({ migrations }: Parts): number {
  const phases = migrations
    .list()
    .flatMap(({ receipt }) => (receipt === undefined ? [] : [receipt.receipt.phases_ms]));
  if (phases.length === 0) return STOP_AND_BOOT_S;
  const sum_ms = phases.reduce((sum, { stop, boot }) => sum + stop + boot, 0);
  return sum_ms / phases.length / 1000;
}
