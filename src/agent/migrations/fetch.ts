import { openFileDevice, userDataDigest } from "#block";
import { componentsOf, TesseraError, type ComponentReference } from "#core";
import type { DestinationEvent } from "#migration";
import {
  connectReceiver,
  type DataReceiver,
  type UserDataHelp,
  type UserDataReport,
} from "#transfer";
import type { Course, Happening } from "./course.ts";
import { prepareKept } from "./kept.ts";
import { incomingDataPath } from "./landing.ts";
import type { DestinationRecord } from "./record.ts";
import type { MigrationTools } from "./tools.ts";

type DestinationCourse = Course<DestinationRecord, DestinationEvent>;
type Heard = Happening<DestinationRecord, DestinationEvent>;

/** The one data connection of a course, opened when it is first needed. */
export class ReceiverHolder {
  readonly #tools: MigrationTools;
  #receiver: DataReceiver | undefined;
  /** Of the open receiver. */
  #takenBytes = 0;
  /** Of closed receivers, not yet taken. */
  #pastBytes = 0;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
  }

  open(course: DestinationCourse): DataReceiver {
    if (this.#receiver !== undefined) return this.#receiver;
    const { world, dataIdentity, store } = this.#tools;
    const { id, data } = course.record;
    this.#receiver = connectReceiver(world, {
      identity: dataIdentity,
      endpoint: data.endpoint,
      session: id,
      token: data.token,
      store,
      onProgress: (event) => this.#tools.progress(id, event),
      userDataBytesMax: course.record.userDataSizeBytes,
      resume: {
        load: () => Promise.resolve(course.record.resumeToken),
        save: (resumeToken) => course.note({ resumeToken }, "data-connected"),
      },
    });
    return this.#receiver;
  }

  /** Bytes on the wire since the last call. */
  takeWireBytes(): number {
    const all = this.#receiver?.wireBytes() ?? this.#takenBytes;
    const fresh = this.#pastBytes + all - this.#takenBytes;
    this.#takenBytes = all;
    this.#pastBytes = 0;
    return fresh;
  }

  async close(): Promise<void> {
    const receiver = this.#receiver;
    this.#receiver = undefined;
    await receiver?.close();
    if (receiver !== undefined) this.#pastBytes += receiver.wireBytes() - this.#takenBytes;
    this.#takenBytes = 0;
  }
}

/** Fetches what the repository does not hold: the only bytes of a component that ever travel. */
export async function fetchComponents(
  tools: MigrationTools,
  holder: ReceiverHolder,
  course: DestinationCourse,
  signal: AbortSignal,
): Promise<Heard> {
  const { world, store } = tools;
  const { appliance, id, took_ms } = course.record;
  const begin_ms = world.clock.monotonic();
  const references = componentsOf(appliance);
  // While the machine still runs at its source: it may take long.
  await prepareKept(tools, course.record.machine.uuid);
  const componentBytes = { ...course.record.componentBytes };
  // Pinned first: what is found then stays.
  await store.pin(
    `migration:${id}`,
    references.map((reference) => reference.id),
  );
  for (const reference of references) {
    if ((await store.find(reference.id)) !== undefined) continue;
    const bytes = await fetchComponent(tools, holder.open(course), { id, reference }, signal);
    componentBytes[reference.id] = (componentBytes[reference.id] ?? 0) + bytes;
    const wireBytes = course.record.wireBytes + holder.takeWireBytes();
    const detail = `${reference.name} ${bytes} bytes`;
    await course.note(
      { componentBytes: { ...componentBytes }, wireBytes },
      "component-held",
      detail,
    );
  }
  const components = (took_ms.components ?? 0) + world.clock.monotonic() - begin_ms;
  const wireBytes = course.record.wireBytes + holder.takeWireBytes();
  return {
    event: "components-held",
    patch: { componentBytes, took_ms: { ...took_ms, components }, wireBytes },
  };
}

async function fetchComponent(
  tools: MigrationTools,
  receiver: DataReceiver,
  { id: migration, reference }: { readonly id: string; readonly reference: ComponentReference },
  signal: AbortSignal,
): Promise<number> {
  const { store } = tools;
  let bytes = await receiver.fetchBlob(reference.manifest, signal);
  const blobs = await store.blobsOf(reference.manifest);
  // Nothing of a component that was not asked for may get in.
  if (!blobs.some(({ digest }) => digest === reference.id)) throw otherComponent(reference);
  tools.own(
    migration,
    reference.id,
    blobs.map(({ digest }) => digest),
  );
  for (const blob of blobs) {
    const other = blob.digest === reference.id ? undefined : await store.find(blob.digest);
    if (other !== undefined) throw otherComponent(reference);
    if (await store.hasBlob(blob.digest)) continue;
    bytes += await receiver.fetchBlob(blob, signal);
  }
  const { id } = await store.admit(reference.manifest);
  if (id === reference.id) return bytes;
  await store.remove(id);
  throw otherComponent(reference);
}

function otherComponent({ id, name }: ComponentReference): TesseraError {
  const message = `the manifest that was given for component "${name}" is of another one`;
  return new TesseraError("peer", "migration.component-mismatch", message, { subject: id });
}

/** Fetches the frozen user data block into the incoming directory, whole and verified. */
export async function fetchUserData(
  tools: MigrationTools,
  holder: ReceiverHolder,
  course: DestinationCourse,
  signal: AbortSignal,
): Promise<Heard> {
  const { world, layout } = tools;
  const { id, took_ms } = course.record;
  const begin_ms = world.clock.monotonic();
  await world.files.makeDirectory(`${layout.incoming}/${id}`, 0o700);
  const path = incomingDataPath(tools, id);
  const report =
    (await world.files.status(path)) === undefined
      ? await holder.open(course).fetchUserData(path, signal, await helpFor(tools, course))
      : await reportOfWhole(tools, path);
  const userData = took_ms.userData ?? 0;
  return {
    event: "user-data-held",
    patch: {
      userData: report,
      wireBytes: course.record.wireBytes + holder.takeWireBytes(),
      took_ms: { ...took_ms, userData: userData + world.clock.monotonic() - begin_ms },
    },
  };
}

/** The copy that this cloud handed over, and the components, which are all held by now. */
async function helpFor(tools: MigrationTools, course: DestinationCourse): Promise<UserDataHelp> {
  const { appliance, machine } = course.record;
  const images = componentsOf(appliance).map(
    ({ id }) =>
      () =>
        tools.store.openBlob(id),
  );
  const lineage = await prepareKept(tools, machine.uuid);
  return { images, ...(lineage === undefined ? {} : { lineage }) };
}

/** The file has its final name only once it is verified: a crash came after that. */
async function reportOfWhole({ world }: MigrationTools, path: string): Promise<UserDataReport> {
  const device = await openFileDevice(world, path, { readOnly: true });
  try {
    const { digest, allocatedBytes } = await userDataDigest(device);
    return { digest, sizeBytes: device.sizeBytes, allocatedBytes, wireBytes: 0 };
  } finally {
    await device.close();
  }
}
