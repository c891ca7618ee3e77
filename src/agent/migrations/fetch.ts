import { openFileDevice, userDataDigest } from "#block";
import { componentsOf, type EncodingShares } from "#core";
import type { DestinationEvent } from "#migration";
import {
  connectReceiver,
  type DataReceiver,
  type HotReceiver,
  type LinkReport,
  type UserDataHelp,
  type UserDataReport,
} from "#transfer";
import type { CourseOf, Happening } from "./course.ts";
import { EncodingsTaken } from "./fetch-components.ts";
import { prepareKept } from "./kept.ts";
import { incomingDataPath } from "./landing.ts";
import type { DestinationPart, DestinationRecord } from "./record.ts";
import type { MigrationTools } from "./tools.ts";

type DestinationCourse = CourseOf<DestinationPart>;
type Heard = Happening<DestinationRecord, DestinationEvent>;

const USER_DATA = "userData";

/** The one data connection of a course, opened when it is first needed. */
export class ReceiverHolder {
  readonly #tools: MigrationTools;
  #receiver: (DataReceiver & HotReceiver) | undefined;
  /** Of the open receiver. */
  #takenBytes = 0;
  /** Of closed receivers, not yet taken. */
  #pastBytes = 0;
  #encodings: EncodingsTaken | undefined;

  constructor(tools: MigrationTools) {
    this.#tools = tools;
  }

  open(course: DestinationCourse): DataReceiver & HotReceiver {
    if (this.#receiver !== undefined) return this.#receiver;
    const { world, dataIdentity, store } = this.#tools;
    const { id, data } = course.record;
    this.#encodings ??= new EncodingsTaken(course.record.encodings);
    this.#receiver = connectReceiver(world, {
      identity: dataIdentity,
      endpoint: data.endpoint,
      session: id,
      token: data.token,
      store,
      onProgress: (event) => {
        this.#encodings?.note(event);
        // Components are told of as wholes, by whoever puts them together.
        if (event.stream === USER_DATA) this.#tools.progress(id, event);
      },
      userDataBytesMax: course.record.userDataSizeBytes,
      resume: {
        load: () => Promise.resolve(course.record.resumeToken),
        save: (resumeToken) => course.note({ resumeToken }, "data-connected"),
      },
    });
    return this.#receiver;
  }

  /** What was measured of the open connection. */
  link(): LinkReport | undefined {
    return this.#receiver?.link?.();
  }

  /** What has been compressed how, as far as this side can tell. */
  encodings(): EncodingShares | undefined {
    return this.#encodings?.total();
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
    this.#encodings?.settle();
    await receiver?.close();
    if (receiver !== undefined) this.#pastBytes += receiver.wireBytes() - this.#takenBytes;
    this.#takenBytes = 0;
  }
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
  const encodings = holder.encodings();
  return {
    event: "user-data-held",
    patch: {
      userData: report,
      ...(encodings === undefined ? {} : { encodings }),
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
export async function reportOfWhole(
  { world }: MigrationTools,
  path: string,
): Promise<UserDataReport> {
  const device = await openFileDevice(world, path, { readOnly: true });
  try {
    const { digest, allocatedBytes } = await userDataDigest(device);
    return { digest, sizeBytes: device.sizeBytes, allocatedBytes, wireBytes: 0 };
  } finally {
    await device.close();
  }
}
