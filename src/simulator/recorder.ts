/** Keeps what a run is to tell. */
import type { MigrationCase } from "#core";
import type { Clouds } from "./clouds.ts";
import type { Revisions } from "./components.ts";
import type { NamedMigration, RunTotals, Scenario, Series } from "./contract.ts";
import type { Course } from "./course.ts";
import { Histogram } from "./distribution.ts";
import type { Carried } from "./flows.ts";
import type { Repositories } from "./repositories.ts";

type Cases = Record<MigrationCase, number>;
type Columns = { -readonly [Name in Exclude<keyof Series, "cases" | "hitRatio">]: number[] };

const noCases = (): Cases => ({ worst: 0, average: 0, best: 0 });

export class Recorder {
  readonly migrationTime = new Histogram();
  readonly downtime = new Histogram();
  readonly named: NamedMigration[] = [];

  readonly #clouds: Clouds;
  readonly #repositories: Repositories;
  readonly #revisions: Revisions;
  readonly #scenario: Scenario;
  readonly #monolithic: boolean;
  readonly #cases = noCases();
  /** Revisions whose machines were there, by cloud. */
  readonly #seen: readonly Set<number>[];
  #templateBytes = 0;
  #migrations = 0;
  #aborted = 0;
  #refused = 0;
  #givenUp = 0;
  #money = 0;
  readonly #bytes = { components: 0, "user-data": 0, prefetch: 0, memory: 0 };
  #monolithicBytes = 0;

  readonly #columns: Columns = {
    time_s: [],
    migrations: [],
    movedBytes: [],
    repositoryBytes: [],
    templateBytes: [],
    money: [],
    balance: [],
    active: [],
  };
  readonly #caseColumns: Record<MigrationCase, number[]> = { worst: [], average: [], best: [] };
  readonly #hitRatios: (number | null)[] = [];
  /** As they were at the point before. */
  #last = { migrations: 0, moved: 0, requested: 0, hit: 0, cases: noCases() };

  constructor(
    scenario: Scenario,
    monolithic: boolean,
    parts: {
      clouds: Clouds;
      repositories: Repositories;
      revisions: Revisions;
    },
  ) {
    this.#scenario = scenario;
    this.#monolithic = monolithic;
    this.#clouds = parts.clouds;
    this.#repositories = parts.repositories;
    this.#revisions = parts.revisions;
    this.#seen = Array.from({ length: parts.clouds.count }, () => new Set<number>());
  }

  /** A machine of this revision is at the cloud. */
  seen(cloud: number, revision: number): void {
    const seen = this.#seen[cloud];
    if (seen === undefined || seen.has(revision)) return;
    seen.add(revision);
    this.#templateBytes += this.#revisions.list[revision]?.sizeBytes ?? 0;
  }

  refused(): void {
    this.#refused += 1;
  }

  /** The memory of a machine would not come across. */
  givenUp(): void {
    this.#givenUp += 1;
  }

  carried({ job, bytes }: Carried): void {
    this.#bytes[job.kind] += bytes;
    this.#money += (bytes / 1e9) * (this.#clouds.egressPricePerGB[job.from] as number);
  }

  settled(course: Course): void {
    const { plan, asked_s, off_s, on_s, ready_s } = course;
    const well = course.source === "completed";
    if (well) {
      this.#migrations += 1;
      this.#cases[plan.case] += 1;
      this.#monolithicBytes += plan.monolithicBytes;
      this.migrationTime.add(ready_s - asked_s);
      this.downtime.add(on_s - off_s);
    } else this.#aborted += 1;
    if (course.named < 0) return;
    this.named.push({
      machine: this.#scenario.migrations.named[course.named]?.machine ?? "",
      from: plan.source,
      to: plan.destination,
      case: plan.case,
      missing: plan.components.flatMap(({ held, component }) => (held ? [] : [component.name])),
      movedBytes: plan.totalBytes,
      seconds: well ? ready_s - asked_s : null,
      downtime_s: well ? on_s - off_s : null,
    });
  }

  sample(now_s: number, active: number): void {
    const { hitBytes, requestedBytes } = this.#repositories;
    const last = this.#last;
    const requested = requestedBytes - last.requested;
    const moved = this.#movedBytes();
    const columns = this.#columns;
    columns.time_s.push(now_s);
    columns.migrations.push(this.#migrations - last.migrations);
    columns.movedBytes.push(moved - last.moved);
    columns.repositoryBytes.push(this.#storedBytes());
    columns.templateBytes.push(this.#templateBytes);
    columns.money.push(this.#money);
    columns.balance.push(this.#balance());
    columns.active.push(active);
    for (const name of ["worst", "average", "best"] as const) {
      this.#caseColumns[name].push(this.#cases[name] - last.cases[name]);
    }
    this.#hitRatios.push(requested === 0 ? null : (hitBytes - last.hit) / requested);
    const cases = { ...this.#cases };
    this.#last = {
      migrations: this.#migrations,
      moved,
      requested: requestedBytes,
      hit: hitBytes,
      cases,
    };
  }

  #storedBytes(): number {
    return this.#monolithic ? this.#templateBytes : this.#repositories.bytes;
  }

  #movedBytes(): number {
    const { components, "user-data": userData, prefetch, memory } = this.#bytes;
    return components + userData + prefetch + memory;
  }

  /** Jain's index: 1 where all open clouds are equally loaded, 1/n where one has it all. */
  #balance(): number {
    const { load, cpus, open, count } = this.#clouds;
    let [sum, squares, clouds] = [0, 0, 0];
    for (let cloud = 0; cloud < count; cloud += 1) {
      if (open[cloud] === 0) continue;
      const share = (load[cloud] as number) / (cpus[cloud] as number);
      sum += share;
      squares += share * share;
      clouds += 1;
    }
    return squares === 0 ? 1 : (sum * sum) / (clouds * squares);
  }

  series(): Series {
    return { ...this.#columns, cases: this.#caseColumns, hitRatio: this.#hitRatios };
  }

  totals(): RunTotals {
    const { hitBytes, requestedBytes } = this.#repositories;
    return {
      migrations: this.#migrations,
      aborted: this.#aborted,
      refused: this.#refused,
      cases: { ...this.#cases },
      movedBytes: this.#movedBytes(),
      componentBytes: this.#bytes.components,
      userDataBytes: this.#bytes["user-data"],
      prefetchBytes: this.#bytes.prefetch,
      memoryBytes: this.#bytes.memory,
      givenUp: this.#givenUp,
      monolithicBytes: this.#monolithicBytes,
      requestedBytes,
      hitBytes,
      hitRatio: requestedBytes === 0 ? 0 : hitBytes / requestedBytes,
      money: this.#money,
    };
  }
}
