import { componentsOf, summaryHead, type Appliance, type DiskFormat, type Offer } from "#core";

/** A cloud that was considered for a machine, and why it was taken or left. */
export interface Candidacy {
  readonly cloud: string;
  readonly fits: boolean;
  /** Reasons against where it does not fit, in its favour where it does. */
  readonly reasons: readonly string[];
  /** Component bytes that the cloud seems to miss, by the summary in its offer. */
  readonly missingBytes: number;
  /** Seconds to move what is missing over the slower of the two links. */
  readonly expected_s: number;
}

export interface Request {
  readonly appliance: Appliance;
  readonly allocatedBytes: number;
  /** That the user data block is to have; absent: any. */
  readonly format?: DiskFormat | undefined;
  /** Uplink of the source in bits per second, if known. */
  readonly linkRate?: number;
  readonly now_ms: number;
}

const RATE_ASSUMED = 10e6;

/**
 * Ranks the clouds that offer themselves for a machine: those that fit first, the least time to
 * move what they miss before more, then more free memory, then by name. Pure; offers are hints,
 * so the chosen cloud is asked again before anything depends on it.
 */
export function rankClouds(request: Request, offers: readonly Offer[]): Candidacy[] {
  const memoryFree = new Map(offers.map((offer) => [offer.cloud, offer.memoryFreeBytes]));
  return offers
    .map((offer) => consider(request, offer))
    .toSorted(
      (a, b) =>
        Number(b.fits) - Number(a.fits) ||
        a.expected_s - b.expected_s ||
        (memoryFree.get(b.cloud) ?? 0) - (memoryFree.get(a.cloud) ?? 0) ||
        (a.cloud < b.cloud ? -1 : 1),
    );
}

function consider(request: Request, offer: Offer): Candidacy {
  const against = objections(request, offer);
  const missingBytes = bytesMissing(request.appliance, offer);
  const rate = Math.min(
    offer.linkRate ?? RATE_ASSUMED,
    request.linkRate ?? Number.POSITIVE_INFINITY,
  );
  const expected_s = ((missingBytes + request.allocatedBytes) * 8) / rate;
  const held = componentsOf(request.appliance).length;
  const favour = [
    missingBytes === 0
      ? `holds all ${held} components`
      : `misses ${missingBytes} bytes of components`,
  ];
  const fits = against.length === 0;
  return { cloud: offer.cloud, fits, reasons: fits ? favour : against, missingBytes, expected_s };
}

function allowed(list: readonly string[], name: string): boolean {
  return list.length === 0 || list.includes(name);
}

function attaches({ formats }: Offer, format: DiskFormat = "raw"): boolean {
  return format === "raw" || formats.includes(format);
}

/** Why an offer does not suit a machine; empty where it does. */
export function objections(request: Request, offer: Offer): string[] {
  const { resources, serviceLevel } = request.appliance;
  const needed = bytesMissing(request.appliance, offer) + request.allocatedBytes;
  const checks: readonly (readonly [boolean, string])[] = [
    [offer.receives, "does not take machines"],
    [offer.expires_ms > request.now_ms, "its offer has expired"],
    [offer.cpusFree >= resources.cpus, `has ${offer.cpusFree} of ${resources.cpus} CPUs free`],
    [
      offer.memoryFreeBytes >= resources.memoryBytes,
      `has ${offer.memoryFreeBytes} of ${resources.memoryBytes} bytes of memory free`,
    ],
    [
      offer.storageFreeBytes >= needed,
      `has ${offer.storageFreeBytes} of ${needed} bytes of storage free`,
    ],
    [attaches(offer, request.format), `attaches no disks of format ${request.format}`],
    [allowed(serviceLevel.clouds, offer.cloud), "is not among the clouds of the service level"],
    [allowed(serviceLevel.regions, offer.region), "is not in a region of the service level"],
  ];
  return checks.flatMap(([holds, reason]) => (holds ? [] : [reason]));
}

/** What is left of an offer when the machine has been placed there. */
export function reserve(request: Request, offer: Offer): Offer {
  const { appliance, allocatedBytes } = request;
  const { resources } = appliance;
  const heads = new Set(offer.repository.heads);
  for (const { id } of componentsOf(appliance)) heads.add(summaryHead(id));
  const storage = bytesMissing(appliance, offer) + allocatedBytes;
  return {
    ...offer,
    cpusFree: Math.max(0, offer.cpusFree - resources.cpus),
    memoryFreeBytes: Math.max(0, offer.memoryFreeBytes - resources.memoryBytes),
    storageFreeBytes: Math.max(0, offer.storageFreeBytes - storage),
    repository: { ...offer.repository, heads: [...heads] },
  };
}

/** Component bytes that a cloud seems to miss, by the summary in its offer. */
export function bytesMissing(appliance: Appliance, offer: Offer): number {
  const heads = new Set(offer.repository.heads);
  return componentsOf(appliance)
    .filter(({ id }) => !heads.has(summaryHead(id)))
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
