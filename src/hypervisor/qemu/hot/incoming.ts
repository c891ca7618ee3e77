import { TesseraError, type World } from "#core";
import type {
  HotEvent,
  HotMethod,
  HotStatistics,
  HotStatus,
  IncomingMachine,
  RunState,
} from "../../contract.ts";
import { fileNode, PIVOTED_NODE, rawDataNode, REMOTE_NODE } from "../data-nodes.ts";
import type { QemuMachine } from "../machine.ts";
import { namedNodes } from "./data-export.ts";
import { POSTCOPY } from "./decode.ts";
import { closePorts, connectGuest, openPorts } from "./forwards.ts";
import * as method from "./method.ts";
import type { HotSession } from "./session.ts";

const RUN_POLL_MS = 20;
const RUN_MS = 10_000;

export interface IncomingParts {
  readonly world: World;
  readonly session: HotSession;
  readonly machine: QemuMachine;
  readonly dataPath: string;
}

export class QemuIncoming implements IncomingMachine {
  readonly machine: QemuMachine;
  readonly #session: HotSession;
  readonly #dataPath: string;
  readonly #clock: World["clock"];

  constructor({ world, session, machine, dataPath }: IncomingParts) {
    this.#clock = world.clock;
    this.machine = machine;
    this.#session = session;
    this.#dataPath = dataPath;
  }

  state(): Promise<{ migration: HotStatus; run: RunState }> {
    return this.#session.state();
  }

  statistics(): Promise<HotStatistics> {
    return this.#session.statistics();
  }

  events(signal?: AbortSignal): AsyncIterable<HotEvent> {
    return this.#session.events(signal);
  }

  until(...args: Parameters<HotSession["until"]>): Promise<HotStatus> {
    return this.#session.until(...args);
  }

  async listen(socketPath: string, how: HotMethod = {}): Promise<void> {
    method.checkMethod(how);
    if ((await this.#session.info()).status !== "none") return;
    await method.setCapabilities(this.#session, method.destinationCapabilities(how));
    await method.setParameters(this.#session, method.destinationParameters(how));
    await closePorts(this.#session, this.machine.hostPorts);
    await this.#session.execute("migrate-incoming", { uri: `unix:${socketPath}` });
  }

  async resume(): Promise<void> {
    const { migration, run } = await this.state();
    if (run !== "running") await this.#goOn(migration);
    await this.#started();
    await connectGuest(this.#session);
    const { forwards, hostPorts } = this.machine;
    await this.machine.setHostPorts(await openPorts(this.#session, forwards, hostPorts));
  }

  async #goOn(migration: HotStatus): Promise<void> {
    if (migration !== "completed" && !POSTCOPY.includes(migration)) {
      throw new TesseraError(
        "misuse",
        "hypervisor.not-arrived",
        `the guest is not here: the migration is ${migration}`,
        { subject: this.machine.uuid, remedy: "wait for completed, or for postcopy-active" },
      );
    }
    await this.#session.execute("cont");
  }

  /** In post-copy it goes on when its devices are there, a moment after it was told to. */
  async #started(): Promise<void> {
    const deadline_ms = this.#clock.monotonic() + RUN_MS;
    while ((await this.#session.run()) === "starting") {
      if (this.#clock.monotonic() > deadline_ms) return;
      await this.#clock.sleep(RUN_POLL_MS);
    }
  }

  pause(): Promise<void> {
    return this.#session.pause();
  }

  async recover(socketPath: string): Promise<void> {
    await this.#session.outOfBand("migrate-recover", { uri: `unix:${socketPath}` });
  }

  async pivotData(): Promise<void> {
    const names = new Set((await namedNodes(this.#session)).map(({ name }) => name));
    if (!names.has(REMOTE_NODE)) return;
    if (!names.has(PIVOTED_NODE)) {
      await this.#session.execute("blockdev-add", fileNode(this.#dataPath, PIVOTED_NODE));
    }
    // Done again after an interruption, this changes nothing.
    await this.#session.execute("blockdev-reopen", { options: [rawDataNode(PIVOTED_NODE)] });
    await this.#session.execute("blockdev-del", { "node-name": REMOTE_NODE });
  }

  async abort(): Promise<void> {
    await this.close();
    await this.machine.stop(0);
  }

  close(): Promise<void> {
    return this.#session.close();
  }
}
