/** One point of Figure 5: a machine has downloaded so much, moves, and goes on downloading. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { MigrationCase, Plan, SignedReceipt } from "#core";
import { run, say } from "../demo/screen.ts";
import { SCENE, WEB_PORT, type FigureCloud, type Scene } from "./clouds.ts";
import { watchHost, type Taken } from "./host.ts";
import type { Leg } from "./legs.ts";
import { moveMonolith, type Monolith } from "./monolith.ts";
import { serviceFiles } from "./service.ts";

export interface Point {
  readonly leg: string;
  readonly taken: Taken;
  /** What the source planned before anything moved. */
  readonly plan: Pick<Plan, "components" | "userData">;
  readonly case: MigrationCase;
  readonly from: string;
  /** What the machine had downloaded when its migration began. */
  readonly downloadedBytes: number;
  /** Where the download went on after the move. */
  readonly resumedBytes: number;
  /** Raw size of the components together. */
  readonly osBytes: number;
  /** Allocated in the user data block. */
  readonly userDataBytes: number;
  /** On the data plane for components, and for user data. */
  readonly componentBytes: number;
  readonly movedUserDataBytes: number;
  readonly wireBytes: number;
  /** As the link's interface counted, with negotiation and all headers. */
  readonly linkBytes: number;
  /** By phase of the receipt. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly whole_s: number;
  readonly downtime_s: number;
  readonly monolith: Monolith;
  /** Negotiation, stop and boot as the composed run had them; preparation and transfer measured. */
  readonly monolithWhole_s: number;
}

/** A machine that travels between the two clouds and downloads one file on its way. */
export class Traveller {
  readonly #scene: Scene;
  readonly #session: number;
  readonly #machine: string;
  #at: FigureCloud;

  private constructor(scene: Scene, session: number, machine: string) {
    this.#scene = scene;
    this.#session = session;
    this.#machine = machine;
    this.#at = scene.messina;
  }

  /** @param machine is the name of its appliance, too */
  static async start(scene: Scene, session: number, machine: string): Promise<Traveller> {
    const { api } = scene.messina;
    const files = serviceFiles(machine, WEB_PORT);
    for (const { web } of [scene.messina, scene.inquadro]) web.limit(0);
    await api.call("machine.create", { name: machine, appliance: machine, files });
    await api.call("machine.start", { machine });
    return new Traveller(scene, session, machine);
  }

  /** Lets it download so much, then moves it to the other cloud, and its monolithic twin too. */
  async go({ name, downloadBytes, case: expected }: Leg): Promise<Point> {
    const { link, messina, inquadro } = this.#scene;
    const [from, to] = this.#at === messina ? [messina, inquadro] : [inquadro, messina];
    const machine = this.#machine;
    for (const { web } of [from, to]) web.limit(downloadBytes);
    await from.web.pausedAt(downloadBytes, machine);
    say(`${machine} has downloaded ${(downloadBytes / 1e6).toFixed(0)} MB at ${from.name}`);
    const { plan } = await from.api.call("plan.make", { machine, to: to.name });
    const [before, told] = [link.bytes(), to.web.told];
    const taken = watchHost(this.#session);
    const { migration } = await from.api.call("migration.start", { machine, to: to.name });
    const status = await from.api.call("migration.watch", { migration: migration ?? "" });
    const linkBytes = link.bytes() - before;
    const host = taken();
    if (status.outcome !== "completed" || status.receipt === undefined) {
      throw new Error(`the migration ended as ${status.outcome}: ${status.error?.message}`);
    }
    if (status.receipt.receipt.case !== expected) {
      throw new Error(`${name} was the ${status.receipt.receipt.case} case`);
    }
    this.#at = to;
    const { offset = 0 } = await to.web.event("asked", machine, told);
    if (offset === 0 || offset > downloadBytes)
      throw new Error(`the download resumed at ${offset}`);
    say(`${machine} goes on at ${to.name} from ${(offset / 1e6).toFixed(2)} MB`);
    const monolith = await monolithOf(this.#scene, from, status.receipt);
    // No lineage: the next move back shall find components there, but no user data.
    await from.api.call("machine.remove", { machine: status.receipt.receipt.machine });
    const kept = {
      leg: name,
      taken: host,
      plan: { components: plan.components, userData: plan.userData },
    };
    const measured = {
      ...kept,
      downloadedBytes: downloadBytes,
      resumedBytes: offset,
      linkBytes,
      monolith,
    };
    return pointOf(status.receipt, measured, await osBytes(to, status.receipt));
  }

  /** Lets it download the rest, and has it compare the digest. @returns whether that is right */
  async arrive(): Promise<boolean> {
    const machine = this.#machine;
    const { web, api, name } = this.#at;
    web.limit(Number.MAX_SAFE_INTEGER);
    const { right } = await web.event("done", machine);
    if (right !== true) return false;
    say(`${machine} has the whole file at ${name}, and its digest is right`);
    await api.call("machine.stop", { machine, force: true });
    await api.call("machine.remove", { machine });
    return true;
  }
}

async function osBytes({ api }: FigureCloud, { receipt }: SignedReceipt): Promise<number> {
  const ids = new Set<string>(receipt.components.map(({ id }) => id));
  const { components } = await api.call("component.list", {});
  return components
    .filter(({ id }) => ids.has(id))
    .reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

async function monolithOf(
  { link }: Scene,
  from: FigureCloud,
  { receipt }: SignedReceipt,
): Promise<Monolith> {
  const images = receipt.components.map(({ id }) =>
    join(from.directory, "repository", "blobs", "sha256", id.slice("sha256:".length)),
  );
  const composed = join(from.directory, "composed", receipt.appliance.slice(7, 39));
  const data = await rawOf(join(from.directory, "machines", receipt.machine));
  const layers = [...images, join(composed, "glue.erofs")];
  return await moveMonolith(link, from.side, join(SCENE, "monolith"), layers, data);
}

async function rawOf(directory: string): Promise<string> {
  const overlay = join(directory, "data.qcow2");
  if (!existsSync(overlay)) return join(directory, "data.raw");
  const whole = join(SCENE, "data.raw");
  await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", overlay, whole]);
  return whole;
}

type Measured = Pick<
  Point,
  "leg" | "taken" | "plan" | "downloadedBytes" | "resumedBytes" | "linkBytes" | "monolith"
>;

function pointOf({ receipt }: SignedReceipt, measured: Measured, osBytes: number): Point {
  const entries = Object.entries(receipt.phases_ms).map(([phase, ms]) => [phase, ms / 1000]);
  const seconds = Object.fromEntries(entries) as Record<string, number>;
  const { prepare_s, transfer_s } = measured.monolith;
  const shared_s = ["negotiate", "stop", "boot"].reduce(
    (sum, each) => sum + (seconds[each] ?? 0),
    0,
  );
  return {
    case: receipt.case,
    from: receipt.source,
    ...measured,
    osBytes,
    userDataBytes: receipt.userData.allocatedBytes,
    componentBytes: receipt.components.reduce((sum, { bytes }) => sum + bytes, 0),
    movedUserDataBytes: receipt.userData.bytes,
    wireBytes: receipt.wireBytes,
    seconds,
    whole_s: (receipt.ended_ms - receipt.started_ms) / 1000,
    downtime_s: receipt.downtime_ms / 1000,
    monolith: measured.monolith,
    monolithWhole_s: shared_s + prepare_s + transfer_s,
  };
}
