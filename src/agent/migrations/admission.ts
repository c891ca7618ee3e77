import { formatFault } from "#block";
import {
  componentsOf,
  referenceOf,
  TesseraError,
  type Appliance,
  type ComponentReference,
  type DiskFormat,
  type Json,
  type Machine,
  type Offer,
} from "#core";
import { nearestBases } from "#delta";
import type { HotDescription } from "#hypervisor";
import { objections } from "#placement";
import {
  BASES_MAX,
  decodePlanQuestion,
  decodeProposal,
  MIGRATION_VERSION,
  type PlanAnswer,
  type Proposal,
} from "./messages.ts";
import { hotObjections } from "./hot-terms.ts";
import { hasKept, keptDigestOf } from "./kept.ts";
import { heldOf } from "./held.ts";
import type { DestinationPart, DestinationRecord, HotDestinationRecord } from "./record.ts";
import { refusal } from "./refusal.ts";
import { answerProbe, sharedObjection } from "./shared-probe.ts";
import { unsigned } from "./signed.ts";
import type { MigrationTools } from "./tools.ts";

/** What a plan question and a proposal have in common. */
interface Candidate {
  /** The cloud that would send it. */
  readonly from: string;
  readonly signatures: Proposal["signatures"];
  readonly uuid: string;
  readonly name: string;
  readonly appliance: Appliance;
  readonly allocatedBytes: number;
  /** Of its user data block here. */
  readonly format: DiskFormat;
  /** Of a machine that is to arrive while it runs. */
  readonly hot?: HotDescription | undefined;
}

/** Decides which machines of other clouds this one takes. */
export class Admission {
  readonly #tools: MigrationTools;
  readonly #offer: () => Promise<Offer>;
  readonly #incoming: () => readonly DestinationPart[];

  /** @param incoming the migrations that are bringing a machine here */
  constructor(
    tools: MigrationTools,
    offer: () => Promise<Offer>,
    incoming: () => readonly DestinationPart[],
  ) {
    this.#tools = tools;
    this.#offer = offer;
    this.#incoming = incoming;
  }

  /** @throws `migration.message-invalid` */
  async answerPlan(from: string, body: Json): Promise<PlanAnswer> {
    const question = decodePlanQuestion(from, body);
    const { version, machine, name, appliance, userDataBytes, signatures, hot, shared } = question;
    const format = this.#formatOf(hot, question.format);
    // What both reach takes no space here.
    const allocatedBytes = shared === undefined ? userDataBytes : 0;
    const part = { from, uuid: machine, name, appliance, signatures, hot };
    const candidate = { ...part, allocatedBytes, format };
    const wanted = componentsOf(appliance);
    const held = await heldOf(this.#tools, wanted);
    const lineage = await keptDigestOf(this.#tools, machine);
    return {
      held,
      ...(lineage === undefined ? {} : { lineage }),
      ...(format === "raw" ? {} : { format }),
      bases: await this.#bases(wanted.filter(({ id }) => !held.includes(id))),
      certificate: this.#tools.endpoint().certificate,
      ...(hot === undefined ? {} : { hot: await this.#hotAnswer(machine) }),
      ...(shared === undefined ? {} : { shared: await answerProbe(this.#tools, machine, shared) }),
      objections:
        version > MIGRATION_VERSION
          ? [`speaks migration version ${MIGRATION_VERSION}`]
          : await this.#objections(candidate),
    };
  }

  async #hotAnswer(uuid: string): Promise<PlanAnswer["hot"]> {
    const capabilities = await this.#tools.hypervisor.hotCapabilities();
    return { postcopy: capabilities?.postcopy ?? false, kept: await hasKept(this.#tools, uuid) };
  }

  async #bases(missing: readonly ComponentReference[]): Promise<PlanAnswer["bases"]> {
    const held = (await this.#tools.store.list()).map(referenceOf);
    return missing.map((component) => ({
      component: component.id,
      bases: nearestBases(component, held, BASES_MAX).map(({ id }) => id),
    }));
  }

  /**
   * The first record of a migration that a peer proposes.
   *
   * @throws `migration.message-invalid`, `migration.version-unsupported`, `migration.refused` (peer)
   */
  async admit(
    from: string,
    id: string,
    body: Json,
  ): Promise<DestinationRecord | HotDestinationRecord> {
    const proposal = decodeProposal(from, body);
    if (proposal.version > MIGRATION_VERSION) throw tooNew(from, proposal.version);
    const { machine, appliance, userData, signatures } = proposal;
    const terms = proposal.mode === "hot" ? proposal.hot : undefined;
    const shared = terms?.storage === "shared";
    const allocatedBytes = shared ? 0 : userData.allocatedBytes;
    const hot = terms?.description;
    const format = this.#formatOf(hot, formatIn(proposal));
    const candidate = { from, ...machine, appliance, allocatedBytes, signatures, hot, format };
    const proposer = { cloud: from, migration: id };
    const lacks = shared ? await sharedObjection(this.#tools, proposer, proposal) : undefined;
    const reasons = [
      ...(lacks === undefined ? [] : [lacks]),
      ...(await this.#objections(candidate)),
    ];
    const [reason] = reasons;
    if (reason !== undefined) throw refusal(reason, machine.uuid, reasons);
    return this.#record(from, id, proposal);
  }

  async #record(
    from: string,
    id: string,
    proposal: Proposal,
  ): Promise<DestinationRecord | HotDestinationRecord> {
    const { machine, appliance, userData, wasRunning, composed, handOverDigest, data } = proposal;
    const { signatures } = proposal;
    return {
      id,
      role: "destination",
      ...this.#modePart(proposal),
      phase: "accepted",
      machine,
      appliance,
      peer: from,
      wasRunning,
      started_ms: this.#tools.world.clock.now(),
      settled: false,
      ...(signatures === undefined ? {} : { signatures }),
      composed,
      handOverDigest,
      data,
      held: await heldOf(this.#tools, componentsOf(appliance)),
      componentBytes: {},
      userDataSizeBytes: userData.sizeBytes,
      wireBytes: 0,
      took_ms: {},
    };
  }

  #modePart(proposal: Proposal) {
    const format = this.#formatOf(undefined, formatIn(proposal));
    const formatted = format === "raw" ? {} : { format };
    if (proposal.mode === "cold") return { mode: "cold", ...formatted } as const;
    const { wait_ms = 0 } = proposal;
    const notBefore_ms = this.#tools.world.clock.now() + wait_ms;
    const waits = wait_ms > 0 ? { notBefore_ms } : {};
    return proposal.mode === "warm"
      ? ({ mode: "warm", ...formatted, ...waits } as const)
      : ({ mode: "hot", hot: proposal.hot, ...waits } as const);
  }

  /** What was asked for, or this cloud's own; a machine that runs meanwhile arrives raw. */
  #formatOf(hot: HotDescription | undefined, asked: DiskFormat | undefined): DiskFormat {
    return hot === undefined ? (asked ?? this.#tools.diskFormat) : "raw";
  }

  /** Why this cloud would not take the machine. */
  async #objections(candidate: Candidate): Promise<string[]> {
    const { uuid, name, appliance, allocatedBytes, hot, format } = candidate;
    const offer = await this.#offer();
    const now_ms = this.#tools.world.clock.now();
    const present = (await this.#tools.machines.list()).filter(({ state }) => state !== "gone");
    const all: Pick<Machine, "uuid" | "name">[] = [
      ...present,
      ...this.#incoming().map(({ machine }) => machine),
    ];
    const named = all.some((machine) => machine.name === name && machine.uuid !== uuid);
    const here = all.some((machine) => machine.uuid === uuid);
    const capabilities = hot && (await this.#tools.hypervisor.hotCapabilities());
    return [
      ...(hot === undefined ? [] : hotObjections(hot, capabilities)),
      ...objections({ appliance, ...spaceOf(format, allocatedBytes), now_ms }, offer),
      ...faultOf(format, appliance),
      ...(named ? [`has another machine named "${name}"`] : []),
      ...(here ? ["has this machine already"] : []),
      ...(await unsigned(this.#tools, candidate)),
    ];
  }
}

function formatIn(proposal: Proposal): DiskFormat | undefined {
  return proposal.mode === "hot" ? undefined : proposal.format;
}

/** While a machine lands in another format than raw, its data are there twice. */
function spaceOf(format: DiskFormat, allocatedBytes: number) {
  return { format, allocatedBytes: format === "raw" ? allocatedBytes : 2 * allocatedBytes };
}

function faultOf(format: DiskFormat, { resources }: Appliance): string[] {
  const fault = formatFault(format, resources.dataBytes);
  return fault === undefined ? [] : [`cannot keep its user data as ${format}: ${fault}`];
}

function tooNew(from: string, version: number): TesseraError {
  const message = `${from} speaks migration version ${version}, and we ${MIGRATION_VERSION}`;
  return new TesseraError("peer", "migration.version-unsupported", message, {
    subject: from,
    remedy: "update Tessera at the destination",
  });
}
