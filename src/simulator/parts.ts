/** What a run is made of, for the parts that need each other. */
import type { Clouds } from "./clouds.ts";
import type { Components, Revisions } from "./components.ts";
import type { PolicySpec, Scenario } from "./contract.ts";
import type { Costs } from "./costs.ts";
import type { EventQueue } from "./event-queue.ts";
import type { Flows } from "./flows.ts";
import type { Holders } from "./holders.ts";
import type { Population } from "./population.ts";
import type { Recorder } from "./recorder.ts";
import type { Repositories } from "./repositories.ts";

export interface Parts {
  readonly scenario: Scenario;
  readonly policy: PolicySpec;
  readonly queue: EventQueue;
  readonly clouds: Clouds;
  readonly components: Components;
  readonly revisions: Revisions;
  readonly repositories: Repositories;
  readonly population: Population;
  readonly holders: Holders;
  readonly costs: Costs;
  readonly flows: Flows;
  readonly recorder: Recorder;
}
