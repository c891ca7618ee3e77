import { componentsOf, reportOf, TesseraError, type Json, type Offer } from "#core";
import type { AgentMessage } from "#federation";
import type {
  DestinationEvent,
  DestinationPhase,
  HotDestinationEvent,
  HotDestinationPhase,
  HotSourceEvent,
  SourceEvent,
} from "#migration";
import { newToken } from "#transfer";
import { answerFind } from "../help/find.ts";
import { HelpDesk } from "../help/help-desk.ts";
import { createTurns } from "../turns.ts";
import { Admission } from "./admission.ts";
import { createCourse, type Course } from "./course.ts";
import { DestinationRole } from "./destination-role.ts";
import { HotDestinationRole } from "./hot/destination-role.ts";
import { HotSourceRole } from "./hot/source-role.ts";
import { refusePostcopy } from "./hot-terms.ts";
import { removeLeftovers } from "./leftovers.ts";
import { decodeSession, encode } from "./messages.ts";
import { Planner, type Planned, type Route } from "./planner.ts";
import type {
  DestinationPart,
  DestinationRecord,
  HotDestinationRecord,
  HotSourceRecord,
  MigrationRecord,
  SourcePart,
  SourceRecord,
} from "./record.ts";
import { refusal } from "./refusal.ts";
import { SourceRole } from "./source-role.ts";
import type { MigrationTools } from "./tools.ts";

type AnyCourse =
  | Course<SourceRecord, SourceEvent>
  | Course<DestinationRecord, DestinationEvent>
  | Course<HotSourceRecord, HotSourceEvent>
  | Course<HotDestinationRecord, HotDestinationEvent>;

/** Phases in which the machine counts although it is not among our machines, or does not run. */
const COMING: readonly (DestinationPhase | HotDestinationPhase)[] = [
  "accepted",
  "composing",
  "replicating",
  "prepared",
  "receiving",
  "received",
  "copying",
  "listening",
  "arming",
  "armed",
  "starting",
];

/** All migrations of this cloud, on either side. */
export class Migrations {
  readonly planner: Planner;
  readonly #tools: MigrationTools;
  readonly #admission: Admission;
  readonly #courses = new Map<string, AnyCourse>();
  readonly #turns = createTurns();
  readonly #helpDesk: HelpDesk;
  #stopped = false;

  constructor(tools: MigrationTools, offer: () => Promise<Offer>) {
    this.#tools = tools;
    this.#admission = new Admission(tools, offer, () => this.incoming());
    this.planner = new Planner(tools, offer);
    this.#helpDesk = new HelpDesk({ ...tools, policy: tools.help });
  }

  /**
   * Goes on with what a crash or a restart interrupted, and removes what it left. To be called
   * once, before any message is handled.
   */
  async recover(): Promise<void> {
    const { journal, machines } = this.#tools;
    await removeLeftovers(this.#tools);
    await this.#helpDesk.recover();
    const records = journal.list();
    for (const record of records) {
      if (isProposed(record)) await this.#mark(record).catch(() => undefined);
    }
    const marks = new Set((await machines.list()).map(({ migration }) => migration));
    // A machine may still carry the mark of a migration that has nothing left to say.
    for (const record of records) if (!record.settled || marks.has(record.id)) this.#begin(record);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#courses.values()].map((course) => course.stop()));
    await this.#helpDesk.stop();
    this.#courses.clear();
  }

  /** Starts a migration as the source; returns once it is journalled. */
  async start(route: Route): Promise<{ record: SourceRecord | HotSourceRecord; planned: Planned }> {
    return await this.#turns.take(route.machine.uuid, async () => {
      await this.requireFree(route.machine.uuid);
      const planned = await this.planner.plan(route, "rough");
      refuseObjections(planned);
      if (planned.terms !== undefined) {
        refusePostcopy(planned.terms, planned.plan.destination, route.machine.uuid);
      }
      const record = await this.#newSource(route, planned);
      try {
        this.#requireRunning();
        this.#first(record, "proposed");
        await this.#mark(record);
      } catch (cause) {
        await this.#giveUp(record, cause);
        throw cause;
      }
      this.#begin(record);
      return { record, planned };
    });
  }

  /** Marks the machine as taking part; it may have the mark already. */
  async #mark({ id, machine: { uuid } }: SourcePart): Promise<void> {
    await this.#tools.machines.update(uuid, (stored) => ({
      ...stored,
      machine: { ...stored.machine, migration: id },
    }));
  }

  /** A migration that could not begin must not begin by itself later. */
  async #giveUp(record: SourceRecord | HotSourceRecord, cause: unknown): Promise<void> {
    const { journal, store, world } = this.#tools;
    const ended_ms = world.clock.now();
    const error = reportOf(cause);
    const ended: MigrationRecord = { ...record, phase: "aborted", settled: true, ended_ms, error };
    try {
      await store.unpin(`migration:${record.id}`);
      const known = journal.load(record.id) !== undefined;
      if (known) journal.save(ended, { event: "failed", detail: error.message, at_ms: ended_ms });
    } catch (failure) {
      world.log.log("error", "a migration is not given up", { ...reportOf(failure) });
    }
  }

  #requireRunning(): void {
    if (!this.#stopped) return;
    const message = "the agent is stopping";
    throw new TesseraError("environment", "migration.agent-stopping", message, {
      remedy: "ask again when it runs",
    });
  }

  /** @throws `migration.machine-gone`, `migration.already-migrating` */
  async requireFree(uuid: string): Promise<void> {
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
      "migration.already-migrating",
      `machine "${machine.name}" takes part in migration ${machine.migration}`,
      {
        subject: machine.uuid,
        remedy: `watch it with "tessera migration watch ${machine.migration}"`,
      },
    );
  }

  async #newSource(
    { machine, bwlimit, at_ms, format }: Route,
    planned: Planned,
  ): Promise<SourceRecord | HotSourceRecord> {
    const { world, machines, store } = this.#tools;
    const id = world.random.uuid();
    const { digest } = await machines.composed(machine.appliance);
    const ids = componentsOf(machine.appliance).map((component) => component.id);
    await store.pin(`migration:${id}`, ids);
    const { uuid, name, created_ms, appliance } = machine;
    return {
      id,
      role: "source",
      ...(planned.terms === undefined
        ? {
            mode: planned.plan.mode === "warm" ? "warm" : "cold",
            ...(format === undefined ? {} : { format }),
          }
        : { mode: "hot", hot: planned.terms }),
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
      ...(at_ms === undefined ? {} : { at_ms }),
    };
  }

  /**
   * Answers another agent. Messages of one migration take turns.
   *
   * @throws `migration.message-invalid`, `migration.not-yours`, and what admission throws (peer)
   */
  async handle(from: string, message: AgentMessage): Promise<Json> {
    this.#requireRunning();
    const { session, action, body } = message;
    if (action === "plan-get") return encode(await this.#admission.answerPlan(from, body));
    if (action === "component-find") {
      return encode(await answerFind(this.#tools.store, this.#tools.help.helps, from, body));
    }
    const id = decodeSession(from, session);
    if (action === "component-offer") return encode(await this.#helpDesk.answer(from, id, body));
    return await this.#turns.take(id, async () => {
      const course = this.#courses.get(id) ?? this.#revive(id);
      if (course === undefined) return await this.#newcomer(from, message);
      if (course.record.peer !== from) throw strange(from, id);
      if (action === "session-initiate") return course.status();
      return await course.hear(body);
    });
  }

  #revive(id: string): AnyCourse | undefined {
    this.#requireRunning();
    const record = this.#tools.journal.load(id);
    return record === undefined ? undefined : this.#begin(record);
  }

  async #newcomer(from: string, { session, action, body }: AgentMessage): Promise<Json> {
    if (action !== "session-initiate") return { phase: "unknown" };
    // One after the other: what the first one takes, the second one must not count on.
    return await this.#turns.take("admission", async () => {
      const record = await this.#admission.admit(from, session, body);
      this.#requireRunning();
      this.#first(record, "proposal");
      return this.#begin(record).status();
    });
  }

  /** The migrations that are bringing a machine here, which is not one of ours yet. */
  incoming(): DestinationPart[] {
    return [...this.#courses.values()].flatMap(({ record }) =>
      record.role === "destination" && COMING.includes(record.phase) ? [record] : [],
    );
  }

  list(): MigrationRecord[] {
    return this.#tools.journal.list();
  }

  /** By id or the first digits of one, six at least. @throws `migration.unknown` */
  find(text: string): MigrationRecord {
    const exact = this.#courses.get(text)?.record ?? this.#tools.journal.load(text);
    if (exact !== undefined) return exact;
    const all = text.length < 6 ? [] : this.list().filter(({ id }) => id.startsWith(text));
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
      "the migration has ended or the machine was handed over: there is no way back",
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
    if (course !== undefined && (await dispatch(course, event, error))) return course.record;
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
    const course = courseOf(record, this.#tools);
    this.#courses.set(record.id, course);
    return course;
  }
}

/** What an operator decides means the same to all courses. */
async function dispatch(
  course: AnyCourse,
  event: "cancel" | "resolve-keep" | "resolve-give-up",
  error: MigrationRecord["error"],
): Promise<boolean> {
  return await course.dispatch({ event, patch: { error } });
}

function courseOf(record: MigrationRecord, tools: MigrationTools): AnyCourse {
  if (record.mode === "hot") {
    return record.role === "source"
      ? createCourse(record, new HotSourceRole(tools), tools)
      : createCourse(record, new HotDestinationRole(tools), tools);
  }
  return record.role === "source"
    ? createCourse(record, new SourceRole(tools), tools)
    : createCourse(record, new DestinationRole(tools), tools);
}

function isProposed(record: MigrationRecord): record is SourceRecord | HotSourceRecord {
  return record.role === "source" && record.phase === "proposed" && !record.settled;
}

/** @throws `migration.refused` */
export function refuseObjections({ plan, answer }: Planned): void {
  const [first] = answer.objections;
  if (first !== undefined)
    throw refusal(`${plan.destination} ${first}`, plan.machine, answer.objections);
}

function strange(from: string, session: string): TesseraError {
  const message = `migration ${session} is not ${from}'s`;
  return new TesseraError("peer", "migration.not-yours", message, { subject: session });
}
