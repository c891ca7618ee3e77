/** The user data block of a machine that arrives while it runs: read ahead, then filled on demand. */
import { dirname, join } from "node:path";
import { openFileDevice } from "#block";
import { mergeRanges, totalLength, type ByteRange } from "#core";
import { serveNbd, type NbdServer } from "#nbd";
import { openOnDemandDevice, type OnDemandDevice, type RemoteReader } from "#userdata";
import { openArriving, type ArrivingFile } from "../kept.ts";
import { incomingDataPath } from "../landing.ts";
import type { HotDestinationRecord } from "../record.ts";
import type { MigrationTools } from "../tools.ts";

const EXPORT = "data";

/** Where the hypervisor finds the block until it has the plain file. */
export interface DiskServer {
  readonly socketPath: string;
  readonly exportName: string;
}

/** One machine's disk at the destination; one instance for each course. */
export class ArrivingDisk {
  readonly #tools: MigrationTools;
  readonly #record: () => HotDestinationRecord;
  #ahead: Promise<ArrivingFile> | undefined;
  #opened: Promise<{ readonly device: OnDemandDevice; readonly server: NbdServer }> | undefined;
  #remote: RemoteReader | undefined;
  /** What has not been read ahead; undefined where that is not known. */
  rest: readonly ByteRange[] | undefined;

  constructor(tools: MigrationTools, record: () => HotDestinationRecord) {
    this.#tools = tools;
    this.#record = record;
  }

  get server(): DiskServer {
    const directory = this.#tools.machines.store.directory(this.#record().machine.uuid);
    return { socketPath: join(directory, "fill.sock"), exportName: EXPORT };
  }

  get #mapPath(): string {
    return `${incomingDataPath(this.#tools, this.#record().id)}.stale`;
  }

  /** Where it stays: the hypervisor will open it there. */
  get #path(): string {
    return this.#tools.machines.store.dataPath(this.#record().machine.uuid);
  }

  /**
   * A disk to read ahead to. An earlier copy of the machine's becomes it, and what an earlier attempt
   * has read; without a map on disk none of it counts, so that nobody takes it for whole.
   */
  async create(): Promise<ArrivingFile> {
    await this.close();
    const { world, layout } = this.#tools;
    const { id, machine, userDataSizeBytes: sizeBytes, hot } = this.#record();
    await world.files.makeDirectory(join(layout.incoming, id), 0o700);
    await world.files.remove(this.#mapPath);
    await world.files.makeDirectory(dirname(this.#path), 0o700);
    const keep = hot.storage !== "pull";
    this.#ahead = openArriving(this.#tools, { uuid: machine.uuid, sizeBytes, keep });
    return await this.#ahead;
  }

  /** The reader of the source's blocks from now on. */
  setRemote(remote: RemoteReader): void {
    this.#remote = remote;
    void this.#opened?.then(({ device }) => device.setRemote(remote)).catch(() => undefined);
  }

  /** True once all is here and the map has been removed: the hypervisor may have the file alone. */
  async isFinished(): Promise<boolean> {
    return (await this.#tools.world.files.status(this.#mapPath)) === undefined;
  }

  /** The disk as the hypervisor sees it, served to it. Opened once; goes on after a restart. */
  async open(): Promise<OnDemandDevice> {
    this.#opened ??= this.#open();
    this.#opened.catch(() => (this.#opened = undefined));
    return (await this.#opened).device;
  }

  async #open() {
    const { world } = this.#tools;
    const ahead = await this.#ahead;
    this.#ahead = undefined;
    const local = ahead?.device ?? (await openFileDevice(world, this.#path, { readOnly: false }));
    const remote = this.#remote === undefined ? {} : { remote: this.#remote };
    const device = await openOnDemandDevice(world, { local, mapPath: this.#mapPath, ...remote });
    const { socketPath, exportName } = this.server;
    await world.files.makeDirectory(dirname(socketPath), 0o700);
    await world.files.remove(socketPath);
    const exports = [{ name: exportName, device }];
    return { device, server: await serveNbd(world, { address: { path: socketPath }, exports }) };
  }

  /**
   * The machine stands still at the source: what is not here is known, durably.
   *
   * @param written at the source since the last pass began; all where nothing was read ahead
   * @returns the bytes that are not here
   */
  async arm(written: readonly ByteRange[]): Promise<number> {
    const device = await this.open();
    if (device.state().armed) return device.state().remoteBytes;
    const whole = [{ offset: 0, length: device.sizeBytes }];
    const stale = mergeRanges([...written, ...(this.rest ?? whole)]);
    await device.arm({ stale });
    return totalLength(stale);
  }

  /** All is here and the hypervisor has the file. */
  async finish(): Promise<void> {
    const device = await this.open();
    await device.finish();
    await this.close();
  }

  async close(): Promise<void> {
    const [opened, ahead] = await Promise.all([
      this.#opened?.catch(() => undefined),
      this.#ahead?.catch(() => undefined),
    ]);
    this.#opened = undefined;
    this.#ahead = undefined;
    // The device first: what waits for the source would keep the server.
    await opened?.device.close();
    await opened?.server.close();
    await ahead?.device.close();
    if (opened !== undefined) await this.#tools.world.files.remove(this.server.socketPath);
  }
}
