/**
 * Every operation of the agent's API, in one table: from it come the server's routes, the
 * client's calls, the checks of both, and the OpenAPI document.
 *
 * An input's members go into the path where the path names them, else into the query (GET,
 * DELETE) or the JSON body (POST). An operation with `progress` answers as a stream of JSON Lines.
 * Version rule: within `/v1` members and operations are only added; readers ignore members of
 * answers that they do not know, while an unknown member of a request is refused.
 */
import * as z from "zod";
import { componentOperations } from "./component-operations.ts";
import type { Operation } from "./operation.ts";
import { list, milliseconds, name } from "./scalars.ts";
import * as exports from "./exports.ts";
import * as imports from "./imports.ts";
import * as view from "./views.ts";
import * as word from "./words.ts";

export const BODY_BYTES_MAX = 16 * 2 ** 20;
const FILES_BODY_BYTES_MAX = 64 * 2 ** 20;

const nothing = z.strictObject({});
const optionalTrue = z.boolean().exactOptional();
/** The last instant that a Date can be (ECMA-262). */
const AT_MAX_MS = 8.64e15;
/** Most machines of one plan. */
const FLEET_MAX = 1024;
const route = {
  machine: name,
  to: name.exactOptional(),
  bwlimit: view.rateLimit,
  /** Default `cold`: the machine is stopped for it. */
  mode: word.migrationMode.exactOptional(),
  /** Of a hot migration; default `auto`. */
  memory: word.memoryMethod.exactOptional(),
  /** Of a hot migration; default `hybrid`. */
  storage: word.storageMethod.exactOptional(),
  /** Of the user data block at the destination; not of a hot migration. Default: the destination's own. */
  format: word.diskFormat.exactOptional(),
  /** The machine is not stopped before; all else moves at once. */
  at_ms: z.int().min(0).max(AT_MAX_MS).exactOptional(),
};
const { machine: _machine, ...rest } = route;
const names = z.array(name).min(1).max(FLEET_MAX).readonly();

const agentOperations = {
  "agent.info": {
    method: "GET",
    path: "/v1/agent",
    summary: "Who this agent is and how it is connected",
    input: nothing,
    result: view.agentInfo,
  },
  "agent.shutdown": {
    method: "POST",
    path: "/v1/agent/shutdown",
    summary: "Ends the agent; machines run on",
    input: nothing,
    result: z.object({}),
  },
  "peer.list": {
    method: "GET",
    path: "/v1/peers",
    summary: "Clouds that this one trusts",
    input: nothing,
    result: z.object({ peers: list(view.peerStatus) }),
  },
  "peer.add": {
    method: "POST",
    path: "/v1/peers",
    summary: "Trusts the cloud of a card",
    input: z.strictObject({ card: view.peerCard }),
    result: view.peerStatus,
  },
  "peer.remove": {
    method: "DELETE",
    path: "/v1/peers/{cloud}",
    summary: "Trusts a cloud no longer",
    input: z.strictObject({ cloud: name }),
    result: view.removed,
  },
  "cloud.list": {
    method: "GET",
    path: "/v1/clouds",
    summary: "Clouds in the federation's room, with the offers they announce",
    input: nothing,
    result: z.object({ clouds: list(view.cloudStatus) }),
  },
  "cloud.show": {
    method: "GET",
    path: "/v1/clouds/{cloud}",
    summary: "One cloud's offer, confirmed by the cloud itself",
    input: z.strictObject({ cloud: name }),
    result: z.object({ cloud: view.cloudStatus, offer: word.offer }),
  },
} as const satisfies Record<string, Operation>;

const machineOperations = {
  "appliance.check": {
    method: "POST",
    path: "/v1/appliances/check",
    summary: "Resolves an appliance file and checks its constraints, keeping nothing",
    input: z.strictObject({ ...view.fileText.shape }),
    result: view.applianceCheck,
  },
  "appliance.add": {
    method: "POST",
    path: "/v1/appliances",
    summary: "Keeps an appliance whose constraints are met",
    input: z.strictObject({ ...view.fileText.shape }),
    result: word.appliance,
  },
  "appliance.list": {
    method: "GET",
    path: "/v1/appliances",
    summary: "The appliances kept here",
    input: nothing,
    result: z.object({ appliances: list(word.appliance) }),
  },
  "appliance.show": {
    method: "GET",
    path: "/v1/appliances/{appliance}",
    summary: "One appliance by name or digest",
    input: z.strictObject({ appliance: name }),
    result: word.appliance,
  },
  "appliance.remove": {
    method: "DELETE",
    path: "/v1/appliances/{appliance}",
    summary: "Removes an appliance; its machines keep their own copy of it",
    input: z.strictObject({ appliance: name }),
    result: view.removed,
  },
  "machine.create": {
    method: "POST",
    path: "/v1/machines",
    summary: "Makes a machine of an appliance or of features, with fresh user data",
    input: z.strictObject({
      name,
      /** Either this or `features`. */
      appliance: name.exactOptional(),
      /** An appliance file, whose components may be ranges of versions and at other clouds. */
      features: view.fileText.exactOptional(),
      files: list(view.instanceFile).exactOptional(),
      /** Texts as cloud-init's NoCloud source takes them; they go before those of `features`. */
      cloudInit: view.cloudInit.exactOptional(),
    }),
    result: word.machine,
    bodyBytesMax: FILES_BODY_BYTES_MAX,
  },
  "machine.import": {
    method: "POST",
    path: "/v1/machines/import",
    summary: "Makes components and a machine of a disk image, or tells of them",
    input: imports.importInput,
    progress: imports.importProgress,
    result: imports.importResult,
  },
  "machine.export": {
    method: "POST",
    path: "/v1/machines/{machine}/export",
    summary: "Makes one bootable disk of a stopped machine, or tells what it would be",
    input: exports.exportInput,
    progress: exports.exportProgress,
    result: exports.exportResult,
  },
  "machine.select": {
    method: "POST",
    path: "/v1/selections",
    summary: "What there is for a machine's features, here and elsewhere",
    input: z.strictObject({ features: view.fileText }),
    result: view.selection,
  },
  "machine.list": {
    method: "GET",
    path: "/v1/machines",
    summary: "The machines of this cloud",
    input: nothing,
    result: z.object({ machines: list(word.machine) }),
  },
  "machine.show": {
    method: "GET",
    path: "/v1/machines/{machine}",
    summary: "One machine by name or UUID",
    input: z.strictObject({ machine: name }),
    result: word.machine,
  },
  "machine.start": {
    method: "POST",
    path: "/v1/machines/{machine}/start",
    summary: "Starts a machine; answers when the guest is ready",
    input: z.strictObject({ machine: name, timeout_ms: milliseconds.exactOptional() }),
    result: word.machine,
  },
  "machine.stop": {
    method: "POST",
    path: "/v1/machines/{machine}/stop",
    summary: "Asks the guest to shut down; by force after the time-out, or at once",
    input: z.strictObject({
      machine: name,
      timeout_ms: milliseconds.exactOptional(),
      force: optionalTrue,
    }),
    result: view.stopResult,
  },
  "machine.remove": {
    method: "DELETE",
    path: "/v1/machines/{machine}",
    summary: "Removes a stopped machine and its user data block",
    input: z.strictObject({ machine: name }),
    result: view.removed,
  },
  "machine.console": {
    method: "GET",
    path: "/v1/machines/{machine}/console",
    summary: "A piece of the console log from an offset in bytes",
    input: z.strictObject({ machine: name, offset: z.int().min(0).exactOptional() }),
    result: view.consoleChunk,
  },
} as const satisfies Record<string, Operation>;

const migrationOperations = {
  "plan.make": {
    method: "POST",
    path: "/v1/plans",
    summary: "What a migration would move; without `to` the agent chooses and says why",
    input: z.strictObject(route),
    result: view.planResult,
  },
  "advice.make": {
    method: "GET",
    path: "/v1/advice",
    summary: "Which machines should leave this cloud, where to, and why; nothing moves",
    input: z.strictObject({ policy: view.placementPolicy.exactOptional() }),
    result: view.advice,
  },
  "plan.fleet": {
    method: "POST",
    path: "/v1/plans/fleet",
    summary: "One plan for several machines, or for all of this cloud",
    input: z.strictObject({ ...rest, machines: names.exactOptional() }),
    result: view.fleetPlan,
  },
  "migration.start": {
    method: "POST",
    path: "/v1/migrations",
    summary: "Starts a migration and answers with its id at once",
    input: z.strictObject({ ...route, dryRun: optionalTrue }),
    result: view.migrationStarted,
  },
  "migration.list": {
    method: "GET",
    path: "/v1/migrations",
    summary: "Migrations that this cloud takes or took part in, newest first",
    input: nothing,
    result: z.object({ migrations: list(view.migrationSummary) }),
  },
  "migration.show": {
    method: "GET",
    path: "/v1/migrations/{migration}",
    summary: "One migration as this side knows it, with plan, receipt and journal",
    input: z.strictObject({ migration: name }),
    result: view.migrationStatus,
  },
  "migration.watch": {
    method: "GET",
    path: "/v1/migrations/{migration}/watch",
    summary: "Progress until the migration ends; hanging up does not stop it",
    input: z.strictObject({ migration: name }),
    progress: view.migrationProgress,
    result: view.migrationStatus,
  },
  "migration.cancel": {
    method: "POST",
    path: "/v1/migrations/{migration}/cancel",
    summary: "Asks to abort; refused once the machine has been handed over",
    input: z.strictObject({ migration: name }),
    result: view.migrationStatus,
  },
  "migration.resolve": {
    method: "POST",
    path: "/v1/migrations/{migration}/resolve",
    summary: "Decides for a side that never comes back, and that the operator has fenced",
    input: z.strictObject({
      migration: name,
      outcome: z.enum(["keep-here", "give-up-here"]),
      /** The operator's word that the other side cannot run the machine. */
      fenced: z.literal(true),
    }),
    result: view.migrationStatus,
  },
} as const satisfies Record<string, Operation>;

export const OPERATIONS = {
  ...agentOperations,
  ...componentOperations,
  ...machineOperations,
  ...migrationOperations,
} as const;

export type OperationName = keyof typeof OPERATIONS;

export const OPERATION_NAMES = Object.keys(OPERATIONS) as readonly OperationName[];

/** An operation as data, without the types of its own schemas. */
export function operationOf(name: OperationName): Operation {
  return OPERATIONS[name];
}

export type Input<N extends OperationName> = z.output<(typeof OPERATIONS)[N]["input"]>;
export type Output<N extends OperationName> = z.output<(typeof OPERATIONS)[N]["result"]>;
export type ProgressOf<N extends OperationName> = (typeof OPERATIONS)[N] extends {
  readonly progress: infer P extends z.ZodType;
}
  ? z.output<P>
  : never;

export interface Context<N extends OperationName> {
  /** Aborted when the client hangs up or the server closes. */
  readonly signal: AbortSignal;
  /** Snapshots: a slow client may miss earlier ones, never the last. */
  readonly progress: (event: ProgressOf<N>) => void;
}

/** What an agent implements. Errors are TesseraErrors and reach the client as ErrorReports. */
export type Handlers = {
  readonly [N in OperationName]: (input: Input<N>, context: Context<N>) => Promise<Output<N>>;
};
