/**
 * Program: one side of a transfer of ours, a process of its own, as an agent is. Arguments: `send` or
 * `receive`, and JSON. A side says one line of JSON when it is ready, works when it reads a line or
 * its input ends, and says another line when it is done. `add`, `digest` and `estimate` prepare, and
 * tell a line at once.
 */
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { hashBlocks, openFileDevice, saveBlockDigests } from "#block";
import {
  referenceOf,
  type Component,
  type ComponentReference,
  type Digest,
  type Fragment,
} from "#core";
import { fileSource } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";
import {
  connectReceiver,
  estimateContents,
  gatherComponents,
  loadOrCreateDataIdentity,
  startDataServer,
  type ComponentContents,
  type DataReceiver,
  type DataSource,
} from "#transfer";

export interface Sides {
  /** Holds both sides' identities. */
  readonly identities: string;
  readonly repository: string;
  /** The component that is moved, as a plan would tell; absent for user data. */
  readonly reference?: ComponentReference;
  /** User data: the disk to send or to write, and the earlier copy that the side has. */
  readonly disk?: string;
  readonly lineage?: { readonly path: string; readonly digest: Digest };
  readonly host: string;
  readonly port: number;
  /** What the cloud's settings say about the link. */
  readonly bitsPerSecond?: number;
  readonly cores: number;
}

const TOKEN = "A".repeat(43);
const SESSION = "bench";
const world = realWorld();

function tell(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function told(): Promise<void> {
  await lines.next();
}

interface Before {
  readonly cpu: NodeJS.CpuUsage;
  readonly restMiB: number;
}

/** What the process has used and has at rest, as it begins. */
function atRest(): Before {
  return { cpu: process.cpuUsage(), restMiB: process.memoryUsage.rss() / 2 ** 20 };
}

function used({ cpu, restMiB }: Before): object {
  const { user, system } = process.cpuUsage(cpu);
  const peakMiB = process.resourceUsage().maxRSS / 1024;
  return { cpu_s: (user + system) / 1e6, peakMiB, restMiB };
}

/** Adds built components, in directories, to a repository; tells their references by name. */
async function add(repository: string, directories: readonly string[]): Promise<void> {
  const store = await openRepository(world, repository);
  const references: Record<string, ComponentReference> = {};
  for (const directory of directories) {
    const text = readFileSync(join(directory, "component.json"), "utf8");
    const { description, fragments } = JSON.parse(text) as {
      description: Component["description"];
      fragments: readonly Fragment[];
    };
    const image = await fileSource(world, join(directory, "image"));
    const component = await store.add({ description, fragments, image });
    await image.close();
    await store.recipe(component.id);
    references[description.name] = referenceOf(component);
  }
  tell(references);
}

async function contentsOf(store: ComponentStore, id: Digest): Promise<ComponentContents> {
  const reader = await store.openContents(id);
  return { ...(await store.recipe(id)), reader };
}

function sourceOf(store: ComponentStore, sides: Sides): DataSource {
  const { disk = "", lineage } = sides;
  return {
    openBlob: (digest) => store.openBlob(digest),
    openUserData: () => openFileDevice(world, disk, { readOnly: true }),
    openComponent: (id) => contentsOf(store, id),
    openBase: async (id) => ((await store.find(id)) ? await contentsOf(store, id) : undefined),
    openBaseBlob: async (digest) =>
      (await store.hasBlob(digest)) ? await store.openBlob(digest) : undefined,
    openLineage: async (digest) =>
      digest === lineage?.digest
        ? { old: await openFileDevice(world, lineage.path, { readOnly: true }) }
        : undefined,
    packs: store.packs,
  };
}

async function send(sides: Sides): Promise<void> {
  const { identities, host, port, bitsPerSecond, cores } = sides;
  const store = await openRepository(world, sides.repository);
  const identity = await loadOrCreateDataIdentity(world, join(identities, "sender"));
  const peer = await loadOrCreateDataIdentity(world, join(identities, "receiver"));
  const offer = {
    id: SESSION,
    token: TOKEN,
    peerCertificate: peer.certificate,
    source: sourceOf(store, sides),
    cores,
    ...(bitsPerSecond === undefined ? {} : { expectedBitsPerSecond: bitsPerSecond }),
  };
  const server = await startDataServer(world, { identity, host, port, offers: [offer] });
  const before = atRest();
  tell({ ready: true });
  await told();
  tell(used(before));
  await server.close();
}

/** A receiver that counts what its requests took, by kind. */
function counting(receiver: DataReceiver, counts: Record<string, number>): DataReceiver {
  const count = (kind: string, bytes: number): number => {
    counts[kind] = (counts[kind] ?? 0) + bytes;
    return bytes;
  };
  return {
    fetchBlob: async (...args) => count("blobBytes", await receiver.fetchBlob(...args)),
    fetchRecipe: async (...args) => {
      const fetched = await receiver.fetchRecipe(...args);
      count("recipeBytes", fetched.wireBytes);
      return fetched;
    },
    fetchContents: async (...args) => count("contentsBytes", await receiver.fetchContents(...args)),
    fetchUserData: (...args) => receiver.fetchUserData(...args),
    wireBytes: () => receiver.wireBytes(),
    close: () => receiver.close(),
  };
}

async function fetchComponent(
  store: ComponentStore,
  receiver: DataReceiver,
  reference: ComponentReference,
): Promise<object> {
  const counts: Record<string, number> = {};
  const counted = counting(receiver, counts);
  const report = await gatherComponents(world, {
    store,
    sources: [
      { holder: { cloud: "sender", pricePerGB: 0 }, open: () => counted, holds: () => true },
    ],
    references: [reference],
    owner: "bench",
    signal: AbortSignal.timeout(3_600_000),
  });
  const [only] = report.components;
  const { heldBytes = 0, patchedBytes = 0, missingBytes = 0 } = only ?? {};
  return { ...counts, wireBytes: report.wireBytes, heldBytes, patchedBytes, missingBytes };
}

async function fetchDisk(receiver: DataReceiver, { disk = "", lineage }: Sides): Promise<object> {
  const signal = AbortSignal.timeout(3_600_000);
  const help = lineage === undefined ? {} : { lineage };
  const { wireBytes } = await receiver.fetchUserData(disk, signal, help);
  return { wireBytes };
}

/** What a plan would say of a component: see {@link estimateContents}. */
async function estimate({ repository, reference, bitsPerSecond, cores }: Sides): Promise<void> {
  const store = await openRepository(world, repository);
  if (reference === undefined) throw new Error("no component");
  const component = await contentsOf(store, reference.id);
  const bases: ComponentContents[] = [];
  for (const { id } of await store.list()) {
    if (id !== reference.id) bases.push(await contentsOf(store, id));
  }
  const conditions = { bitsPerSecond: bitsPerSecond ?? 1e10, cores };
  const input = { clock: world.clock, component, bases, packs: store.packs, conditions };
  const { bytes, knownShare } = await estimateContents({ ...input, budget_ms: 4000 });
  const config = await store.blobsOf(reference.manifest);
  const small = config.filter(({ digest }) => digest !== reference.id);
  const smallBytes = small.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  tell({ bytes, knownShare, smallBytes });
}

/** The digest of a user data block, and beside it those of its blocks, as who received it has. */
async function digest({ disk = "", repository }: Sides): Promise<void> {
  const device = await openFileDevice(world, disk, { readOnly: true });
  const digests = await hashBlocks(device);
  await device.close();
  await saveBlockDigests(world, repository, digests);
  tell({ path: disk, digest: digests.userDataDigest().digest });
}

async function receive(sides: Sides): Promise<void> {
  const { identities, host, port } = sides;
  const store = await openRepository(world, sides.repository);
  for (const { id } of await store.list()) {
    await store.imagePath(id);
    await store.recipe(id);
  }
  const sender = await loadOrCreateDataIdentity(world, join(identities, "sender"));
  const receiver = connectReceiver(world, {
    identity: await loadOrCreateDataIdentity(world, join(identities, "receiver")),
    endpoint: { candidates: [{ host, port }], certificate: sender.certificate },
    session: SESSION,
    token: TOKEN,
    store,
  });
  const { reference } = sides;
  const before = atRest();
  tell({ ready: true });
  await told();
  const begin = performance.now();
  const report =
    reference === undefined
      ? await fetchDisk(receiver, sides)
      : await fetchComponent(store, receiver, reference);
  const seconds = (performance.now() - begin) / 1000;
  tell({ ...report, seconds, ...used(before) });
  await receiver.close();
}

const [mode = "", text = "{}"] = process.argv.slice(2);
const value = JSON.parse(text) as Sides & { readonly directories: readonly string[] };
if (mode === "add") await add(value.repository, value.directories);
else if (mode === "digest") await digest(value);
else if (mode === "estimate") await estimate(value);
else if (mode === "send") await send(value);
else await receive(value);
process.exit(0);
