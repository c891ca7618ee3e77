/**
 * Proof that two clouds mean the same storage, before anything is copied: the source writes a secret
 * beside the user data block, the destination tells it and writes one of its own, which the source
 * reads.
 */
import { join } from "node:path";
import * as z from "zod";
import { hasCode, TesseraError, type Machine, type World } from "#core";
import { newToken } from "#transfer";
import { sharedFileOf, sharedPath } from "../shared-data.ts";
import type { Proposal } from "./messages.ts";
import type { HotSourceRecord } from "./record.ts";
import { digestOfToken } from "./token.ts";
import type { MigrationTools } from "./tools.ts";

const SECRET_BYTES_MAX = 256;
const PREFIX = ".tessera-probe-";
const NOT_THERE =
  "does not find the user data block in a directory of shared storage (storage.shared)";

const secret = z.string().min(16).max(SECRET_BYTES_MAX);

export const probeQuestionShape = z.object({
  /** A file beside the user data block. */
  name: z.string().regex(/^\.tessera-probe-[a-z0-9-]{1,128}$/, "is no probe"),
  sizeBytes: z.int().min(0),
});
export const probeAnswerShape = z.object({ read: secret, wrote: secret });

export type ProbeQuestion = z.output<typeof probeQuestionShape>;
export type ProbeAnswer = z.output<typeof probeAnswerShape>;

const seenPath = (path: string): string => `${path}.seen`;

async function readSecret({ files }: World, path: string): Promise<string | undefined> {
  try {
    return Buffer.from(await files.readFile(path, SECRET_BYTES_MAX)).toString("utf8");
  } catch (error) {
    if (hasCode(error, "system.not-found") || hasCode(error, "system.too-large")) return undefined;
    throw error;
  }
}

/** The source's part. */
export class SharedProbe {
  readonly question: ProbeQuestion;
  readonly #world: World;
  readonly #path: string;
  readonly #secret: string;

  private constructor(world: World, directory: string, question: ProbeQuestion) {
    this.#world = world;
    this.question = question;
    this.#path = join(directory, question.name);
    this.#secret = newToken(world.random);
  }

  /** @throws `migration.not-shared` (misuse) where the machine's user data block is not on shared storage */
  static async begin(
    { world, machines, sharedDirectory, cloud }: MigrationTools,
    machine: Machine,
    sizeBytes: number,
  ): Promise<SharedProbe> {
    const { uuid } = machine;
    const file = await sharedFileOf(world, machines.store.directory(uuid));
    if (sharedDirectory === undefined || file !== sharedPath(sharedDirectory, uuid)) {
      throw notShared(machine);
    }
    const name = `${PREFIX}${cloud}-${world.random.uuid()}`;
    const probe = new SharedProbe(world, sharedDirectory, { name, sizeBytes });
    await world.files.writeFileAtomic(probe.#path, probe.#secret);
    return probe;
  }

  /** Why the destination cannot take the machine so; undefined where it can. */
  async objection(answer: ProbeAnswer | undefined): Promise<string | undefined> {
    const { read, wrote } = answer ?? {};
    if (read === undefined || wrote === undefined) {
      return NOT_THERE;
    }
    if (read !== this.#secret) return "has another directory of shared storage than this cloud";
    const seen = await readSecret(this.#world, seenPath(this.#path));
    return seen === wrote ? undefined : "cannot write to the directory of shared storage";
  }

  async end(): Promise<void> {
    await this.#world.files.remove(seenPath(this.#path));
    await this.#world.files.remove(this.#path);
  }
}

/** The destination's part: undefined where it does not find what it is asked for. */
export async function answerProbe(
  tools: MigrationTools,
  uuid: string,
  { name, sizeBytes }: ProbeQuestion,
): Promise<ProbeAnswer | undefined> {
  const { world, sharedDirectory } = tools;
  if (sharedDirectory === undefined || !(await seesShared(tools, uuid, sizeBytes)))
    return undefined;
  const path = join(sharedDirectory, name);
  const read = await readSecret(world, path);
  if (read === undefined) return undefined;
  const wrote = newToken(world.random);
  // Where it cannot be written, the source does not find it.
  await world.files.writeFileAtomic(seenPath(path), wrote).catch(() => undefined);
  return { read, wrote };
}

function proofPath(directory: string, source: string, migration: string): string {
  return join(directory, `${PREFIX}${source}-${migration}`);
}

/** Lets the destination see that who proposes the migration reaches the storage. */
export async function writeProof(tools: MigrationTools, record: HotSourceRecord): Promise<void> {
  const { world, sharedDirectory, cloud } = tools;
  if (record.hot.storage !== "shared" || sharedDirectory === undefined) return;
  const path = proofPath(sharedDirectory, cloud, record.id);
  await world.files.writeFileAtomic(path, digestOfToken(record.handOver));
}

export async function removeProof(tools: MigrationTools, { id }: HotSourceRecord): Promise<void> {
  const { world, sharedDirectory, cloud } = tools;
  if (sharedDirectory !== undefined) {
    await world.files.remove(proofPath(sharedDirectory, cloud, id));
  }
}

/** Why a machine is not taken over with its user data block on shared storage; undefined: it is. */
export async function sharedObjection(
  tools: MigrationTools,
  proposer: { readonly cloud: string; readonly migration: string },
  { machine, userData, handOverDigest }: Proposal,
): Promise<string | undefined> {
  const { world, sharedDirectory } = tools;
  const there = await seesShared(tools, machine.uuid, userData.sizeBytes);
  if (sharedDirectory === undefined || !there) return NOT_THERE;
  const path = proofPath(sharedDirectory, proposer.cloud, proposer.migration);
  const proof = await readSecret(world, path);
  return proof === handOverDigest ? undefined : "finds no proof that both reach one storage";
}

/** Whether the user data block of a machine lies in this cloud's directory of shared storage. */
export async function seesShared(
  { world, sharedDirectory }: MigrationTools,
  uuid: string,
  sizeBytes: number,
): Promise<boolean> {
  if (sharedDirectory === undefined) return false;
  const status = await world.files.status(sharedPath(sharedDirectory, uuid));
  return status?.kind === "file" && status.sizeBytes === sizeBytes;
}

/** Removes what an agent that was killed while it asked has left. */
export async function removeProbes({
  world,
  sharedDirectory,
  cloud,
}: MigrationTools): Promise<void> {
  if (sharedDirectory === undefined) return;
  const own = `${PREFIX}${cloud}-`;
  for (const name of await world.files.list(sharedDirectory)) {
    if (name.startsWith(own)) await world.files.remove(join(sharedDirectory, name));
  }
}

function notShared({ name, uuid }: Machine): TesseraError {
  const message = `the user data block of machine "${name}" is not on shared storage`;
  return new TesseraError("misuse", "migration.not-shared", message, {
    subject: uuid,
    remedy: "use --storage hybrid, push or pull; machines made with storage.shared set lie there",
  });
}
