/** What the fault tests share: a scene that is set up once and anew after a test that failed. */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { startFederation, type Federation, type FederationOptions } from "./federation.ts";
import { startJourney, type Journey, type MachineOptions, type Outcome } from "./journey.ts";

/** The whole matrix, or the fixed part of it that every test run takes. */
export const ALL = process.env["FAULTS"] === "all";

/** Of the whole matrix only cases whose names match are run, the rest is told as not run. */
const ONLY = ALL ? (process.env["ONLY"] ?? "") : "";

/** Cases that are always run, and those that only the whole matrix has. */
export function chosen<T>(cases: readonly T[], always: (item: T, index: number) => boolean): T[] {
  return cases.filter((item, index) => ALL || always(item, index));
}

/** Both clouds reach one directory, in which the machine's user data block lies. */
export const SHARED: FederationOptions = {
  prepare: async (cloud) => {
    const shared = join(cloud.root, "../shared");
    await mkdir(shared, { recursive: true });
    cloud.configure((config) => (config["storage"] = { shared }));
  },
};

/** Two clouds and one machine that all tests of a file use, one after the other. */
export class Scene {
  readonly #options: FederationOptions;
  readonly #machine: MachineOptions;
  #journey: Promise<Journey> | undefined;

  constructor(options: FederationOptions = {}, machine: MachineOptions = {}) {
    this.#options = options;
    this.#machine = machine;
    after(() => this.close());
  }

  /** A test on the scene; when it fails, the agents' logs are shown and the scene is made anew. */
  test(
    name: string,
    work: (journey: Journey, context: TestContext) => Promise<void>,
    skip: false | string = false,
  ): void {
    const wanted = ONLY === "" || new RegExp(ONLY, "u").test(name);
    test(name, { skip: wanted ? skip : "not run" }, async (context) => {
      const opening = (this.#journey ??= this.#open());
      opening.catch(() => (this.#journey = undefined));
      const journey = await opening;
      for (const cloud of [journey.home, journey.away]) cloud.faults();
      try {
        await work(journey, context);
      } catch (error) {
        const { a, b } = journey.federation;
        for (const cloud of [a, b]) context.diagnostic(`${cloud.name}\n${cloud.log()}`);
        await this.close().catch((cause: unknown) => context.diagnostic(String(cause)));
        throw error;
      }
    });
  }

  async #open(): Promise<Journey> {
    const federation = await startFederation(this.#options);
    try {
      return await startJourney(federation, this.#machine);
    } catch (error) {
      await federation.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    const opened = this.#journey;
    this.#journey = undefined;
    const journey = await opened?.catch(() => undefined);
    await journey?.federation.close();
  }
}

/** Waits for both ends and checks everything. */
export async function expectEnd(
  journey: Journey,
  id: string,
  expected: Outcome,
  timeout_ms?: number,
): Promise<void> {
  const outcome = await journey.settle(id, timeout_ms);
  assert.equal(outcome, expected);
  await journey.assertWhole(id, outcome);
}

/** The ids that a cloud knows, so that a new one can be told. */
export async function knownIds(federation: Federation): Promise<ReadonlySet<string>> {
  const lists = [federation.a, federation.b].map((cloud) => cloud.call("migration.list", {}));
  const all = (await Promise.all(lists)).flatMap(({ migrations }) => migrations);
  return new Set(all.map(({ migration }) => migration));
}
