import type { BlockDevice } from "#block";
import {
  componentsOf,
  TesseraError,
  totalLength,
  type ComponentReference,
  type Digest,
  type DiskFormat,
  type HotChoice,
  type Machine,
  type MigrationMode,
  type Offer,
  type Plan,
} from "#core";
import type { HotDescription } from "#hypervisor";
import { makePlan } from "#migration";
import { rankClouds, type Candidacy } from "#placement";
import { estimateUserData } from "#transfer";
import { openArrived } from "../machine-data.ts";
import { sampleRatio } from "./estimate.ts";
import { describe, keptNotes, plannedOf, termsOf, warningsOf } from "./hot-terms.ts";
import type { HotTerms } from "./hot-words.ts";
import { movesOf } from "./moves.ts";
import { decodePlanAnswer, encode, versionOf, type PlanAnswer } from "./messages.ts";
import { SharedProbe, type ProbeQuestion } from "./shared-probe.ts";
import { signaturesOf } from "./signed.ts";
import type { MigrationTools } from "./tools.ts";

const RATE_ASSUMED = 100e6;
/** Samples of each component, of 1 MiB, that a migration waits for before it begins. */
const ROUGH_PIECES = 6;

export interface Route {
  readonly machine: Machine;
  readonly to?: string;
  /** Bits per second. */
  readonly bwlimit?: number;
  /** The machine is to run meanwhile; absent: it is stopped. */
  readonly hot?: HotChoice;
  /** Its user data block is replicated while it runs; then it is stopped for a short time. */
  readonly warm?: true;
  /** The machine is not stopped before. */
  readonly at_ms?: number;
  /** Of its user data block there; absent: the destination's own. */
  readonly format?: DiskFormat;
  /** What the others have left when this machine comes; as they announce when absent. */
  readonly offers?: readonly Offer[];
}

export interface Planned {
  readonly plan: Plan;
  /** Of a hot migration: what both sides can. */
  readonly terms?: HotTerms;
  /** The destination's own answer. */
  readonly answer: PlanAnswer;
  readonly userData: { readonly sizeBytes: number; readonly allocatedBytes: number };
  /** Present when the agent chose the destination. */
  readonly considered?: readonly Candidacy[];
}

interface UserDataBlock {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
}

/** Makes plans: measures what is here, asks the destination what it holds. */
export class Planner {
  readonly #tools: MigrationTools;
  readonly #offer: () => Promise<Offer>;

  constructor(tools: MigrationTools, offer: () => Promise<Offer>) {
    this.#tools = tools;
    this.#offer = offer;
  }

  /** @param care what is only told, and not sampled before, is sampled roughly */
  async plan(route: Route, care: "exact" | "rough" = "exact"): Promise<Planned> {
    if (route.to === this.#tools.cloud) throw isHere(route.to, route.machine);
    const userData = await this.#userData(route.machine.uuid);
    const own = await this.#offer();
    const considered = route.to === undefined ? this.#rank(route, userData, own) : undefined;
    const to = route.to ?? chosenOf(considered ?? [], route.machine);
    if (route.warm === true) requireRunning(this.#tools, route.machine);
    const description = await describe(this.#tools, route);
    const answer = await this.#answerOf(route, to, userData, description);
    const terms = description && termsOf(route, description, answer);
    const theirs = this.#tools.transport.peers().find(({ cloud }) => cloud === to)?.offer;
    const rate = rateOf(route.bwlimit, own, theirs);
    const { appliance } = route.machine;
    const planned = terms && plannedOf(terms, appliance, rate.bitsPerSecond);
    const format = terms === undefined ? answer.format : undefined;
    const plan = makePlan({
      machine: route.machine.uuid,
      source: this.#tools.cloud,
      destination: to,
      mode: modeOf(route),
      ...(planned === undefined ? {} : { hot: planned.hot }),
      appliance: route.machine.appliance,
      held: answer.held,
      ratios: await this.#ratiosOf(componentsOf(route.machine.appliance), care),
      moves: await movesOf(this.#tools, route.machine.appliance, answer, rate.bitsPerSecond),
      userData: {
        allocatedBytes: userData.allocatedBytes,
        ...(terms?.storage === "shared"
          ? { bytes: 0 }
          : await this.#userDataMove(route.machine.uuid, answer.lineage, rate.bitsPerSecond)),
      },
      rate,
      pricePerGB: own.egressPricePerGB,
      notes: [
        ...answer.objections.map((objection) => `${to} would refuse: ${objection}`),
        ...(planned?.notes ?? []),
        ...(terms === undefined ? [] : warningsOf(terms)),
        ...(terms === undefined ? [] : keptNotes(terms, answer, to)),
        ...windowNotes(route),
        ...formatNotes(format, to),
      ],
    });
    return {
      plan: format === undefined ? plan : { ...plan, format },
      answer,
      userData,
      ...(terms === undefined ? {} : { terms }),
      ...(considered === undefined ? {} : { considered }),
    };
  }

  /** Asks; where storage is to be shared, it is proven to be. */
  async #answerOf(
    route: Route,
    to: string,
    { sizeBytes, allocatedBytes }: UserDataBlock,
    description: HotDescription | undefined,
  ): Promise<PlanAnswer> {
    const { machine, hot, format } = route;
    const mode = modeOf(route);
    if (hot?.storage !== "shared") {
      const wanted = format === undefined ? {} : { format };
      const more = { mode, ...(description && { hot: description }), ...wanted };
      return await this.#ask(to, machine, allocatedBytes, more);
    }
    const probe = await SharedProbe.begin(this.#tools, machine, sizeBytes);
    try {
      const more = { mode, ...(description && { hot: description }), shared: probe.question };
      const answer = await this.#ask(to, machine, allocatedBytes, more);
      const objection = await probe.objection(answer.shared);
      if (objection === undefined) return answer;
      return { ...answer, objections: [...answer.objections, objection] };
    } finally {
      await probe.end();
    }
  }

  async ask(cloud: string, machine: Machine, userDataBytes: number): Promise<PlanAnswer> {
    return await this.#ask(cloud, machine, userDataBytes, { mode: "cold" });
  }

  async #ask(
    cloud: string,
    machine: Machine,
    userDataBytes: number,
    {
      mode,
      ...more
    }: {
      readonly mode: MigrationMode;
      readonly hot?: HotDescription;
      readonly format?: DiskFormat;
      readonly shared?: ProbeQuestion;
    },
  ): Promise<PlanAnswer> {
    const { transport, world } = this.#tools;
    const { uuid, name, appliance } = machine;
    const version = versionOf(mode, more.format);
    const signatures = await signaturesOf(this.#tools, appliance);
    const question = {
      version,
      appliance,
      machine: uuid,
      name,
      userDataBytes,
      signatures,
      ...more,
    };
    const body = encode(question);
    const session = world.random.uuid();
    return decodePlanAnswer(
      cloud,
      await transport.request(cloud, { session, action: "plan-get", body }),
    );
  }

  /** What the others announce. */
  offers(): Offer[] {
    const peers = this.#tools.transport.peers();
    return peers.flatMap(({ offer }) => (offer === undefined ? [] : [offer]));
  }

  #rank(
    { machine, format, offers = this.offers() }: Route,
    { allocatedBytes }: Planned["userData"],
    { linkRate }: Offer,
  ): Candidacy[] {
    const now_ms = this.#tools.world.clock.now();
    const { appliance } = machine;
    const link = linkRate === undefined ? {} : { linkRate };
    return rankClouds({ appliance, allocatedBytes, format, now_ms, ...link }, offers);
  }

  async #userData(uuid: string): Promise<UserDataBlock> {
    return await this.#withUserData(uuid, async (device) => {
      const ranges = await device.allocated();
      return { sizeBytes: device.sizeBytes, allocatedBytes: totalLength(ranges) };
    });
  }

  /** What would move of the user data; less where the destination keeps what has come from it. */
  async #userDataMove(
    uuid: string,
    kept: Digest | undefined,
    bitsPerSecond: number,
  ): Promise<{ readonly bytes: number; readonly lineage?: true }> {
    const { world, machines } = this.#tools;
    const directory = machines.store.directory(uuid);
    const lineage = kept === undefined ? undefined : await openArrived(world, directory, kept);
    const conditions = { lineage, bitsPerSecond, cores: this.#tools.freeCores() };
    try {
      const bytes = await this.#withUserData(uuid, (device) =>
        estimateUserData(device, conditions),
      );
      return { bytes, ...(lineage === undefined ? {} : { lineage: true }) };
    } finally {
      await lineage?.old.close();
    }
  }

  async #withUserData<T>(uuid: string, work: (device: BlockDevice) => Promise<T>): Promise<T> {
    const device = await this.#tools.machines.openData(uuid);
    try {
      return await work(device);
    } finally {
      await device.close();
    }
  }

  /** Sampled once for each component, one after the other: each uses all processors. */
  async #ratiosOf(
    components: readonly ComponentReference[],
    care: "exact" | "rough",
  ): Promise<Map<Digest, number>> {
    const { ratios } = this.#tools;
    const found = new Map<Digest, number>();
    for (const { id, sizeBytes } of components) {
      const sample = (pieces?: number): Promise<number> => this.#sample(id, sizeBytes, pieces);
      const rough = care === "rough" && (await ratios.known(id)) === undefined;
      found.set(id, rough ? await sample(ROUGH_PIECES) : await ratios.ratio(id, sample));
    }
    return found;
  }

  async #sample(id: Digest, sizeBytes: number, pieces?: number): Promise<number> {
    const reader = await this.#tools.store.openBlob(id);
    try {
      return await sampleRatio(reader, [{ offset: 0, length: sizeBytes }], pieces);
    } finally {
      await reader.close();
    }
  }
}

function rateOf(bwlimit: number | undefined, own: Offer, theirs: Offer | undefined): Plan["rate"] {
  const links = [own.linkRate, theirs?.linkRate].filter((rate) => rate !== undefined);
  const link = links.length === 0 ? undefined : Math.min(...links);
  if (bwlimit !== undefined && bwlimit <= (link ?? Number.POSITIVE_INFINITY)) {
    return { bitsPerSecond: bwlimit, from: "limit" };
  }
  if (link !== undefined) return { bitsPerSecond: link, from: "offer" };
  return { bitsPerSecond: RATE_ASSUMED, from: "assumed" };
}

function modeOf({ hot, warm }: Route): MigrationMode {
  if (hot !== undefined) return "hot";
  return warm === true ? "warm" : "cold";
}

/** @throws `migration.machine-stopped` (misuse) */
function requireRunning({ machines }: MigrationTools, { uuid, name }: Machine): void {
  if (machines.running(uuid) !== undefined) return;
  const message = `machine "${name}" does not run, so nothing is gained by moving it warm`;
  throw new TesseraError("misuse", "migration.machine-stopped", message, {
    subject: uuid,
    remedy: "move it cold, without --warm",
  });
}

function formatNotes(format: DiskFormat | undefined, to: string): string[] {
  if (format === undefined) return [];
  return [
    `${to} keeps the user data block as ${format}: it is converted there before the machine starts, and ` +
      "needs twice its space meanwhile; when the machine leaves again, all blocks travel, and it cannot " +
      "leave while it runs",
  ];
}

function windowNotes(route: Route): string[] {
  const { at_ms } = route;
  const mode = modeOf(route);
  const warm =
    "the machine runs while its user data block is copied; then it stops, and what has changed " +
    "follows once both sides have read the block";
  const time = new Date(at_ms ?? 0).toISOString();
  const window = {
    cold: `all else moves at once; the machine stops at ${time}`,
    warm: `components and user data move at once; the machine stops at ${time}`,
    hot: `components and user data move at once; the machine leaves at ${time}`,
  };
  return [...(mode === "warm" ? [warm] : []), ...(at_ms === undefined ? [] : [window[mode]])];
}

function isHere(cloud: string, { name, uuid }: Machine): TesseraError {
  const message = `machine "${name}" is at ${cloud} already`;
  return new TesseraError("misuse", "migration.same-cloud", message, {
    subject: uuid,
    remedy: 'name another cloud; see "tessera cloud ls"',
  });
}

function chosenOf(considered: readonly Candidacy[], machine: Machine): string {
  const [best] = considered;
  if (best?.fits === true) return best.cloud;
  const reasons = considered.map(({ cloud, reasons: why }) => `${cloud}: ${why.join("; ")}`);
  const message =
    considered.length === 0
      ? "no other cloud is present in the federation"
      : `no cloud fits machine "${machine.name}": ${reasons.join(" | ")}`;
  throw new TesseraError("misuse", "migration.no-destination", message, {
    subject: machine.uuid,
    remedy: 'see "tessera cloud ls", or name a cloud with --to',
  });
}
