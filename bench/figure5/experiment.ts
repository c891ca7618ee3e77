/** One point of Figure 5: a machine downloads so much, moves, and goes on downloading. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { MigrationCase, SignedReceipt } from "#core";
import { run, say } from "../demo/screen.ts";
import { SCENE, WEB_PORT, type FigureCloud, type Scene } from "./clouds.ts";
import { moveMonolith, type Monolith } from "./monolith.ts";
import { serviceFiles } from "./service.ts";

export interface Point {
  readonly machine: string;
  readonly case: MigrationCase;
  /** Downloaded when the migration began, by the web server's count. */
  readonly downloadedBytes: number;
  /** Where the download went on after the move. */
  readonly resumedBytes: number;
  /** Raw sizes: of the components together, and of the user data block's allocated part. */
  readonly osBytes: number;
  readonly userDataBytes: number;
  /** On the data plane; the link's counter also has negotiation and headers. */
  readonly wireBytes: number;
  readonly componentBytes: number;
  readonly movedUserDataBytes: number;
  readonly linkBytes: number;
  readonly seconds: Readonly<Record<string, number>>;
  readonly whole_s: number;
  readonly downtime_s: number;
  readonly monolith: Monolith;
  /** Stop and boot as the composed run had them, preparation and transfer as measured. */
  readonly monolithWhole_s: number;
}

export interface Experiment {
  readonly machine: string;
  readonly appliance: string;
  readonly downloadBytes: number;
}

export async function measure(scene: Scene, experiment: Experiment): Promise<Point> {
  const { machine, appliance, downloadBytes } = experiment;
  const { messina, inquadro, link } = scene;
  messina.web.limit(downloadBytes);
  const files = serviceFiles(machine, WEB_PORT);
  await messina.api.call("machine.create", { name: machine, appliance, files });
  await messina.api.call("machine.start", { machine });
  const { bytes: downloadedBytes = 0 } = await messina.web.event("paused", machine);
  say(`${machine} has downloaded ${(downloadedBytes / 1e6).toFixed(1)} MB at messina`);
  inquadro.web.limit(Number.MAX_SAFE_INTEGER);
  const before = link.bytes();
  const { migration } = await messina.api.call("migration.start", { machine, to: "inquadro" });
  const status = await messina.api.call("migration.watch", { migration: migration ?? "" });
  const linkBytes = link.bytes() - before;
  if (status.outcome !== "completed" || status.receipt === undefined) {
    throw new Error(
      `the migration of ${machine} ended as ${status.outcome}: ${status.error?.message}`,
    );
  }
  const resumedBytes = await goesOn(inquadro, machine, downloadedBytes);
  const monolith = await monolithOf(scene, status.receipt);
  await inquadro.api.call("machine.stop", { machine, force: true });
  await inquadro.api.call("machine.remove", { machine });
  return pointOf(experiment, status.receipt, {
    downloadedBytes,
    resumedBytes,
    linkBytes,
    monolith,
  });
}

/** The download resumes where it was, and the whole file has the right digest. */
async function goesOn({ web }: FigureCloud, machine: string, downloaded: number): Promise<number> {
  const { offset = 0 } = await web.event("asked", machine);
  if (offset === 0 || offset > downloaded) throw new Error(`the download resumed at ${offset}`);
  const { right } = await web.event("done", machine);
  if (right !== true) throw new Error(`the file of ${machine} is not what the server sent`);
  say(`${machine} went on at inquadro from ${(offset / 1e6).toFixed(1)} MB; the digest is right`);
  return offset;
}

async function monolithOf({ messina, link }: Scene, { receipt }: SignedReceipt): Promise<Monolith> {
  const images = receipt.components.map(({ id }) =>
    join(messina.directory, "repository", "blobs", "sha256", id.slice("sha256:".length)),
  );
  const composed = join(messina.directory, "composed", receipt.appliance.slice(7, 39));
  const kept = join(messina.directory, "machines", receipt.machine);
  const data = await rawOf(kept);
  const layers = [...images, join(composed, "glue.erofs")];
  return await moveMonolith(link, join(SCENE, "monolith"), layers, data);
}

async function rawOf(directory: string): Promise<string> {
  const overlay = join(directory, "data.qcow2");
  if (!existsSync(overlay)) return join(directory, "data.raw");
  const whole = join(SCENE, "data.raw");
  await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", overlay, whole]);
  return whole;
}

type Measured = Pick<Point, "downloadedBytes" | "resumedBytes" | "linkBytes" | "monolith">;

function pointOf({ machine }: Experiment, { receipt }: SignedReceipt, measured: Measured): Point {
  const entries = Object.entries(receipt.phases_ms).map(([phase, ms]) => [phase, ms / 1000]);
  const seconds = Object.fromEntries(entries) as Record<string, number>;
  const { prepare_s, transfer_s } = measured.monolith;
  const edges_s = (seconds["negotiate"] ?? 0) + (seconds["stop"] ?? 0) + (seconds["boot"] ?? 0);
  return {
    machine,
    case: receipt.case,
    ...measured,
    osBytes: 0,
    userDataBytes: receipt.userData.allocatedBytes,
    wireBytes: receipt.wireBytes,
    componentBytes: receipt.components.reduce((sum, { bytes }) => sum + bytes, 0),
    movedUserDataBytes: receipt.userData.bytes,
    seconds,
    whole_s: (receipt.ended_ms - receipt.started_ms) / 1000,
    downtime_s: receipt.downtime_ms / 1000,
    monolithWhole_s: edges_s + prepare_s + transfer_s,
  };
}
