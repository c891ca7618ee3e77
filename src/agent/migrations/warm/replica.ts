/** The user data block at the destination of a warm migration: brought up to date until the source stops. */
import { join } from "node:path";
import { createFileDevice, openFileDevice, saveBlockDigests, type BlockDevice } from "#block";
import type { DestinationEvent } from "#migration";
import { blocksPath, type UserDataReport } from "#transfer";
import type { Course, Happening } from "../course.ts";
import { reportOfWhole, type ReceiverHolder } from "../fetch.ts";
import { restBefore } from "../hot/copy-ahead.ts";
import { takeKept } from "../kept.ts";
import { incomingDataPath } from "../landing.ts";
import type { DestinationRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";
import { compareBlocks, type Compared } from "./compare.ts";
import { anotherPass } from "./passes.ts";

type WarmCourse = Course<DestinationRecord, DestinationEvent>;
type Heard = Happening<DestinationRecord, DestinationEvent>;

/** Where the block has something while the machine runs, and once it is off. */
export const LIVE_MAP = "live";
export const FROZEN_MAP = "frozen";

/** One for each course. Nothing that an earlier attempt has brought counts: all is compared again. */
export class Replica {
  readonly #tools: MigrationTools;
  readonly #holder: ReceiverHolder;
  readonly #course: WarmCourse;
  #passes = 0;
  #bytes = 0;
  #took_ms = 0;

  constructor(tools: MigrationTools, holder: ReceiverHolder, course: WarmCourse) {
    this.#tools = tools;
    this.#holder = holder;
    this.#course = course;
  }

  get #path(): string {
    return join(this.#tools.layout.incoming, this.#course.record.id, "warm.raw");
  }

  /** Passes until they shrink no more, and until a chosen time has come. */
  async replicate(signal: AbortSignal): Promise<Heard> {
    const { clock } = this.#tools.world;
    const { device, lineage } = await this.#open();
    try {
      for (;;) {
        await this.#round(device, signal);
        const { notBefore_ms = 0 } = this.#course.record;
        const wait_ms = notBefore_ms - clock.now();
        if (wait_ms <= 0) break;
        await clock.sleep(restBefore(wait_ms), signal);
      }
      await device.flush();
    } finally {
      await device.close();
    }
    const { record } = this.#course;
    const wireBytes = this.#holder.takeWireBytes();
    const userData = (record.took_ms.userData ?? 0) + this.#took_ms;
    return {
      event: "replicated",
      patch: {
        replica: { passes: this.#passes, bytes: this.#bytes, wireBytes, lineage },
        wireBytes: record.wireBytes + wireBytes,
        took_ms: { ...record.took_ms, userData },
      },
    };
  }

  async #round(device: BlockDevice, signal: AbortSignal): Promise<void> {
    const { clock } = this.#tools.world;
    const begin_ms = clock.monotonic();
    const changed: number[] = [];
    while (anotherPass(changed)) {
      changed.push((await this.#pass(device, LIVE_MAP, signal)).changedBytes);
    }
    this.#took_ms += clock.monotonic() - begin_ms;
  }

  /** Another reader for each pass: the source opens its files anew for it. */
  async #pass(device: BlockDevice, map: string, signal: AbortSignal): Promise<Compared> {
    const { id, userDataSizeBytes } = this.#course.record;
    const receiver = this.#holder.open(this.#course);
    const remote = receiver.readBlocks(userDataSizeBytes);
    this.#passes += 1;
    const pass = this.#passes;
    try {
      const allocated = await receiver.fetchMap(map, userDataSizeBytes, signal);
      const progress = (doneBytes: number, totalBytes: number): void =>
        this.#tools.progress(id, { stream: "userData", doneBytes, totalBytes, wireBytes: 0, pass });
      const compared = await compareBlocks({ local: device, remote, allocated, progress }, signal);
      this.#bytes += compared.changedBytes;
      return compared;
    } finally {
      remote.close();
    }
  }

  /** What there is of an earlier attempt, else a copy that is kept here, else an empty file. */
  async #open(): Promise<{ readonly device: BlockDevice; readonly lineage: boolean }> {
    const { world, layout } = this.#tools;
    const { id, machine, userDataSizeBytes, replica } = this.#course.record;
    await world.files.makeDirectory(join(layout.incoming, id), 0o700);
    const lineage = replica?.lineage ?? false;
    if ((await world.files.status(this.#path)) !== undefined) {
      return { device: await openFileDevice(world, this.#path, { readOnly: false }), lineage };
    }
    const place = { uuid: machine.uuid, sizeBytes: userDataSizeBytes, path: this.#path };
    const taken = await takeKept(this.#tools, place);
    const device = taken
      ? await openFileDevice(world, this.#path, { readOnly: false })
      : await createFileDevice(world, this.#path, userDataSizeBytes);
    return { device, lineage: taken };
  }

  /** The machine is off: what differs of any block travels, and all of it is durable then. */
  async complete(signal: AbortSignal): Promise<Heard> {
    const { world } = this.#tools;
    const begin_ms = world.clock.monotonic();
    const path = incomingDataPath(this.#tools, this.#course.record.id);
    const isWhole = (await world.files.status(path)) !== undefined;
    const whole = isWhole ? await reportOfWhole(this.#tools, path) : await this.#last(path, signal);
    const { record } = this.#course;
    const fresh = this.#holder.takeWireBytes();
    const { replica, took_ms } = record;
    const userData = (took_ms.userData ?? 0) + world.clock.monotonic() - begin_ms;
    return {
      event: "user-data-held",
      patch: {
        userData: {
          ...whole,
          wireBytes: (replica?.wireBytes ?? 0) + fresh,
          ...(replica?.lineage === true ? { lineage: true } : {}),
        },
        wireBytes: record.wireBytes + fresh,
        took_ms: { ...took_ms, userData },
      },
    };
  }

  async #last(path: string, signal: AbortSignal): Promise<UserDataReport> {
    const { world } = this.#tools;
    const { device } = await this.#open();
    let report: UserDataReport;
    try {
      const { digests } = await this.#pass(device, FROZEN_MAP, signal);
      await device.flush();
      await saveBlockDigests(world, blocksPath(path), digests);
      const { sizeBytes } = device;
      report = { ...digests.userDataDigest(), sizeBytes, wireBytes: 0 };
    } finally {
      await device.close();
    }
    // With this name it is whole.
    await world.files.rename(this.#path, path);
    return report;
  }
}
