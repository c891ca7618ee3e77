import { TesseraError, type Json, type Machine, type Offer } from "#core";
import { type DestinationEvent, type SourceEvent } from "#migration";
import type { AgentMessage } from "#federation";
import { objections } from "#placement";
import { newToken } from "#transfer";
import { componentsOf } from "#core";
import { createCourse, type Course } from "./course.ts";
import { DestinationRole } from "./destination-role.ts";
import {
  decodePlanQuestion,
  decodeProposal,
  encode,
  MIGRATION_VERSION,
  type PlanAnswer,
  type Proposal,
} from "./messages.ts";
import { heldOf, Planner, type Planned, type Route } from "./planner.ts";
import type { DestinationRecord, MigrationRecord, SourceRecord } from "./record.ts";
import { SourceRole } from "./source-role.ts";
import type { MigrationTools } from "./tools.ts";
import { createTurns } from "../turns.ts";

type AnyCourse = Course<SourceRecord, SourceEvent> | Course<DestinationRecord, DestinationEvent>;

/** All migrations of this cloud, on either side. */
export class Migrations {
  readonly planner: Planner;
  readonly #tools: MigrationTools;
  readonly #offer: () => Promise<Offer>;
  readonly #courses = new Map<string, AnyCourse>();
  readonly #turns = createTurns();

  constructor(tools: MigrationTools, offer: () => Promise<Offer>) {
    this.#tools = tools;
    this.#offer = offer;
    this.planner = new Planner(tools, offer);
  }

  /** Goes on with what a crash or a restart interrupted. */
  recover(): void {
    for (const record of this.#tools.journal.list()) {
      if (!record.settled) this.#begin(record);
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#courses.values()].map((course) => course.stop()));
    this.#courses.clear();
  }

  /** Starts a migration as the source; returns once it is journalled. */
  async start(route: Route): Promise<{ record: SourceRecord; planned: Planned }> {
    return await this.#turns.take(route.machine.uuid, async () => {
      await this.#requireFree(route.machine.uuid);
      const planned = await this.planner.plan(route);
      refuseObjections(planned);
      const record = await this.#newSource(route, planned);
      this.#first(record, "proposed");
      await this.#tools.machines.update(record.machine.uuid, (stored) => ({
        ...stored,
        machine: { ...stored.machine, migration: record.id },
      }));
      this.#begin(record);
      return { record, planned };
    });
  }

  async #requireFree(uuid: string): Promise<void> {
    const machine = (await this.#tools.machines.store.resolve(uuid)).machine;
    if (machine.state === "gone") {
      throw new TesseraError(
        "misuse",
        "migration.machine-gone",
        `machine "${machine.name}" is at ${machine.cloud ?? "another cloud"}`,
        {
          subject: machine.uuid,
          remedy: `migrate it from there`,
        },
      );
    }
    if (machine.migration === undefined) return;
    throw new TesseraError(
      "misuse",
      "migration.already",
      `machine "${machine.name}" takes part in migration ${machine.migration}`,
      {
        subject: machine.uuid,
        remedy: `watch it with "tessera migration watch ${machine.migration}"`,
      },
    );
  }

  async #newSource({ machine, bwlimit }: Route, planned: Planned): Promise<SourceRecord> {
    const { world, machines, store } = this.#tools;
    const id = world.random.uuid();
    const { digest } = await machines.composed(machine.appliance);
    const ids = componentsOf(machine.appliance).map((component) => component.id);
    await store.pin(`migration:${id}`, ids);
    const { uuid, name, created_ms, appliance } = machine;
    return {
      id,
      role: "source",
      phase: "proposed",
      machine: { uuid, name, created_ms },
      appliance,
      peer: planned.plan.destination,
      wasRunning: machines.running(uuid) !== undefined,
      started_ms: world.clock.now(),
      settled: false,
      plan: planned.plan,
      composed: digest,
      handOver: newToken(world.random),
      peerCertificate: planned.answer.certificate,
      userData: {
        sizeBytes: planned.userData.sizeBytes,
        allocatedBytes: planned.userData.allocatedBytes,
      },
      ...(bwlimit === undefined ? {} : { bytesPerSecondMax: bwlimit / 8 }),
    };
  }

  /** Answers another agent. Messages of one migration take turns. */
  async handle(from: string, message: AgentMessage): Promise<Json> {
    const { session, action, body } = message;
    if (action === "plan-get") return encode(await this.#answerPlan(from, body));
    return await this.#turns.take(session, async () => {
      const course = this.#courses.get(session) ?? this.#revive(session);
      if (course === undefined) return await this.#newcomer(from, session, action, body);
      if (course.record.peer !== from) throw strange(from, session);
      if (action === "session-initiate") return course.status();
      return await course.hear(body);
    });
  }

  #revive(session: string): AnyCourse | undefined {
    const record = this.#tools.journal.load(session);
    return record === undefined ? undefined : this.#create(record);
  }

  async #newcomer(
    from: string,
    session: string,
    action: AgentMessage["action"],
    body: Json,
  ): Promise<Json> {
    if (action !== "session-initiate") return { phase: "unknown" };
    const proposal = decodeProposal(from, body);
    const record = await this.#newDestination(from, session, proposal);
    this.#first(record, "proposal");
    return this.#begin(record).status();
  }

  async #newDestination(from: string, id: string, proposal: Proposal): Promise<DestinationRecord> {
    const { world } = this.#tools;
    const { machine, appliance, userData } = proposal;
    const reasons = await this.#objections(
      proposal,
      machine.uuid,
      machine.name,
      userData.allocatedBytes,
    );
    const [reason] = reasons;
    if (reason !== undefined) throw refusal(reason, machine.uuid, reasons);
    return {
      id,
      role: "destination",
      phase: "accepted",
      machine,
      appliance,
      peer: from,
      wasRunning: proposal.wasRunning,
      started_ms: world.clock.now(),
      settled: false,
      composed: proposal.composed,
      handOverDigest: proposal.handOverDigest,
      data: proposal.data,
      held: await heldOf(this.#tools, componentsOf(appliance)),
      componentBytes: {},
      userDataSizeBytes: userData.sizeBytes,
      wireBytes: 0,
      took_ms: {},
    };
  }

  async #answerPlan(from: string, body: Json): Promise<PlanAnswer> {
    const question = decodePlanQuestion(from, body);
    return {
      held: await heldOf(this.#tools, componentsOf(question.appliance)),
      certificate: this.#tools.endpoint().certificate,
      objections: await this.#objections(
        question,
        question.machine,
        question.name,
        question.userDataBytes,
      ),
    };
  }

  /** Why this cloud would not take the machine. */
  async #objections(
    { version, appliance }: { version: number; appliance: Machine["appliance"] },
    uuid: string,
    name: string,
    allocatedBytes: number,
  ): Promise<string[]> {
    if (version > MIGRATION_VERSION) return [`speaks migration version ${MIGRATION_VERSION}`];
    const offer = await this.#offer();
    const now_ms = this.#tools.world.clock.now();
    const known = await this.#tools.machines.list();
    const present = known.filter((machine) => machine.state !== "gone");
    const reasons = objections({ appliance, allocatedBytes, now_ms }, offer);
    const named = present.some((machine) => machine.name === name && machine.uuid !== uuid);
    const here = present.some((machine) => machine.uuid === uuid);
    return [
      ...reasons,
      ...(named ? [`has another machine named "${name}"`] : []),
      ...(here ? ["has this machine already"] : []),
    ];
  }

  list(): MigrationRecord[] {
    return this.#tools.journal.list();
  }

  /** @throws `migration.unknown` */
  find(text: string): MigrationRecord {
    const all = this.list().filter(
      ({ id }) => id === text || (text.length >= 6 && id.startsWith(text)),
    );
    const [found] = all;
    if (found !== undefined && all.length === 1) return found;
    throw new TesseraError("misuse", "migration.unknown", `no migration "${text}" here`, {
      subject: text,
      remedy: 'see "tessera migration ls"',
    });
  }

  /** @throws `migration.too-late` once the machine has been handed over */
  async cancel(text: string): Promise<MigrationRecord> {
    const { id } = this.find(text);
    const error = {
      code: "migration.cancelled",
      fault: "misuse" as const,
      message: "cancelled by the operator",
    };
    return await this.#decide(
      id,
      "cancel",
      error,
      "migration.too-late",
      "the machine has been handed over: there is no way back",
    );
  }

  /** @throws `migration.not-waiting` where there is nothing to decide */
  async resolve(text: string, outcome: "keep-here" | "give-up-here"): Promise<MigrationRecord> {
    const { id } = this.find(text);
    const event = outcome === "keep-here" ? "resolve-keep" : "resolve-give-up";
    const error = {
      code: "migration.resolved",
      fault: "misuse" as const,
      message: `the operator decided: ${outcome}`,
    };
    return await this.#decide(
      id,
      event,
      error,
      "migration.not-waiting",
      "this migration does not wait for an operator",
    );
  }

  async #decide(
    id: string,
    event: "cancel" | "resolve-keep" | "resolve-give-up",
    error: MigrationRecord["error"],
    code: string,
    message: string,
  ): Promise<MigrationRecord> {
    const course = this.#courses.get(id);
    const before = course?.record.phase;
    if (course !== undefined) await dispatch(course, event, error);
    if (course !== undefined && course.record.phase !== before) return course.record;
    throw new TesseraError("misuse", code, message, { subject: id });
  }

  #first(record: MigrationRecord, event: string): void {
    const { hooks, journal } = this.#tools;
    hooks.beforeSave(record);
    journal.save(record, { event, at_ms: record.started_ms });
    hooks.afterSave(record);
  }

  #begin(record: MigrationRecord): AnyCourse {
    const course = this.#create(record);
    course.begin();
    return course;
  }

  #create(record: MigrationRecord): AnyCourse {
    const course =
      record.role === "source"
        ? createCourse(record, new SourceRole(this.#tools), this.#tools)
        : createCourse(record, new DestinationRole(this.#tools), this.#tools);
    this.#courses.set(record.id, course);
    return course;
  }
}

async function dispatch(
  course: AnyCourse,
  event: "cancel" | "resolve-keep" | "resolve-give-up",
  error: MigrationRecord["error"],
): Promise<void> {
  if (course.record.role === "source") {
    await (course as Course<SourceRecord, SourceEvent>).dispatch({ event, patch: { error } });
  } else {
    await (course as Course<DestinationRecord, DestinationEvent>).dispatch({
      event,
      patch: { error },
    });
  }
}

function refuseObjections({ plan, answer }: Planned): void {
  const [first] = answer.objections;
  if (first !== undefined)
    throw refusal(`${plan.destination} ${first}`, plan.machine, answer.objections);
}

function refusal(reason: string, machine: string, all: readonly string[]): TesseraError {
  const more = all.length > 1 ? ` (and ${all.length - 1} more)` : "";
  return new TesseraError("peer", "migration.refused", `refused: ${reason}${more}`, {
    subject: machine,
    remedy: 'see "tessera cloud show", or choose another cloud',
  });
}

function strange(from: string, session: string): TesseraError {
  const message = `migration ${session} is not ${from}'s`;
  return new TesseraError("peer", "migration.not-yours", message, { subject: session });
}
