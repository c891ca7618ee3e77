/** A real machine that travels between two test clouds, and what must be true of it at any time. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Input, Output } from "#api";
import { canonicalJson, hasCode } from "#core";
import { verifySignature } from "#federation";
import { until, Violation, type Federation, type TestCloud } from "./federation.ts";

const APPLIANCE = (
  name: string,
  programs: readonly string[],
  cpus: number,
): string => `name: ${name}
kernel: tiny-kernel
os: tiny-os
programs: [${programs.join(", ")}]
resources:
  cpus: ${cpus}
  memory: 128M
  data: 64M
  ports:
    - { name: http, guest: 80 }
`;

export type Migration = Output<"migration.show">;
export type Outcome = "completed" | "aborted";

interface Acknowledged {
  readonly number: number;
  readonly boot: string;
}

/** One machine, made at cloud `a` and running. */
export class Journey {
  readonly federation: Federation;
  readonly uuid: string;
  /** Where the machine is. */
  home: TestCloud;
  away: TestCloud;
  /** It moves while it runs, or has done so last. */
  #hot = false;

  constructor(federation: Federation, uuid: string) {
    this.federation = federation;
    this.uuid = uuid;
    this.home = federation.a;
    this.away = federation.b;
  }

  /** Where each role is played when the machine leaves its home. */
  side(role: Role): TestCloud {
    return role === "source" ? this.home : this.away;
  }

  /**
   * At most one hypervisor runs the machine: holds at every moment. In a hot migration another one
   * waits beside it, or stands still; that both never ran it is seen in the numbers it acknowledged.
   */
  atMostOne(): void {
    const { a, b } = this.federation;
    const all = [...a.guests(this.uuid), ...b.guests(this.uuid)];
    if (all.length <= (this.#hot ? 2 : 1)) return;
    throw new Violation(`the machine runs twice: ${all.map(({ command }) => command).join("\n")}`);
  }

  /** Starts the migration; undefined when the source died before it could say which. */
  async depart(
    how: Omit<Input<"migration.start">, "machine" | "to"> = {},
  ): Promise<string | undefined> {
    this.#hot = how.mode === "hot";
    const wanted = { machine: this.uuid, to: this.away.name, ...how };
    const started = await unlessItDied(this.home.call("migration.start", wanted));
    return started?.migration;
  }

  async show(cloud: TestCloud, id: string): Promise<Migration | undefined> {
    const { migrations } = await cloud.call("migration.list", {});
    if (!migrations.some(({ migration }) => migration === id)) return undefined;
    return await cloud.call("migration.show", { migration: id });
  }

  /** The newest migration of this machine at a cloud, unless it is one of these. */
  async newest(cloud: TestCloud, known: ReadonlySet<string>): Promise<string | undefined> {
    const { migrations } = await cloud.call("migration.list", {});
    const own = migrations.filter(({ machine }) => machine === this.uuid);
    return own.find(({ migration }) => !known.has(migration))?.migration;
  }

  /** Waits until both sides have ended, while the machine never runs twice. */
  async settle(id: string, timeout_ms = 300_000): Promise<Outcome> {
    const ended = async (cloud: TestCloud): Promise<string | undefined> =>
      (await this.show(cloud, id))?.outcome;
    const sides = await until(
      `migration ${id} ends at both sides`,
      async () => {
        this.atMostOne();
        const source = await ended(this.home);
        if (source === undefined) return undefined;
        const destination = (await this.show(this.away, id)) === undefined ? "none" : undefined;
        const known = destination ?? (await ended(this.away));
        return known === undefined ? undefined : { source, destination: known };
      },
      timeout_ms,
    );
    if (sides.source === "completed") {
      assert.equal(sides.destination, "completed");
      [this.home, this.away] = [this.away, this.home];
      return "completed";
    }
    assert.equal(sides.source, "aborted");
    assert.ok(["aborted", "none"].includes(sides.destination), sides.destination);
    return "aborted";
  }

  /** Everything that must hold when nothing is going on. */
  async assertWhole(id: string | undefined, outcome: Outcome | undefined): Promise<void> {
    if (id !== undefined && outcome === "completed") await this.#assertReceipts(id);
    await this.#assertPlace();
    await this.#assertRecords();
    for (const cloud of [this.home, this.away]) {
      await until(`${cloud.name} keeps no leftovers`, () => this.#isTidy(cloud, id));
      const { findings } = await cloud.call("component.verify", {});
      assert.deepEqual(findings, []);
    }
  }

  async #assertReceipts(id: string): Promise<void> {
    const { a, b } = this.federation;
    const [one, other] = [await this.show(a, id), await this.show(b, id)];
    const signed = one?.receipt;
    assert.ok(signed !== undefined, "a completed migration has a receipt");
    assert.deepEqual(signed, other?.receipt, "the receipts are equal");
    const text = canonicalJson(signed.receipt);
    const bytes = Buffer.from(`tessera receipt 1\n${text}`);
    for (const cloud of [a, b]) {
      const { card } = await cloud.call("agent.info", {});
      const signature = signed.signatures[cloud.name] ?? "";
      assert.ok(verifySignature(card.agentKey, bytes, signature), `${cloud.name}'s signature`);
    }
    assert.equal(signed.receipt.migration, id);
    assert.equal(signed.receipt.machine, this.uuid);
    assert.equal(signed.receipt.destination, this.home.name);
    assert.equal(signed.receipt.source, this.away.name);
  }

  async #assertPlace(): Promise<void> {
    this.atMostOne();
    assert.equal(this.home.guests(this.uuid).length, 1, `it runs at ${this.home.name}`);
    assert.equal(this.away.guests(this.uuid).length, 0, `nothing of it at ${this.away.name}`);
    const there = await this.home.call("machine.show", { machine: this.uuid });
    assert.equal(there.state, "running");
    const { machines } = await this.away.call("machine.list", {});
    const other = machines.find(({ uuid }) => uuid === this.uuid);
    assert.ok(other === undefined || other.state === "gone", `${this.away.name}: ${other?.state}`);
    if (other !== undefined) assert.equal(other.cloud, this.home.name);
  }

  /** The records that the guest itself has on its disk. */
  async records(): Promise<Acknowledged[]> {
    const { hostPorts } = await this.home.call("machine.show", { machine: this.uuid });
    const url = `http://127.0.0.1:${hostPorts["http"]}/records`;
    const text = await until("the guest answers", async () => {
      const answer = await fetch(url, { signal: AbortSignal.timeout(5000) });
      return answer.ok ? await answer.text() : undefined;
    });
    const lines = text.slice(0, text.lastIndexOf("\n") + 1).matchAll(/^(\d+) (\S+)$/gm);
    return [...lines].map(([, number, boot = ""]) => ({ number: Number(number), boot }));
  }

  /** What the guest has told the outside of, at either cloud. */
  acknowledged(): Acknowledged[] {
    return [this.federation.a, this.federation.b].flatMap(({ root }) => {
      const path = join(root, "machines", this.uuid, "console.log");
      const text = existsSync(path) ? readFileSync(path, "utf8") : "";
      const lines = text.matchAll(/^ack (\d+) ([0-9a-f-]{36})\r?$/gm);
      return [...lines].map(([, number, boot = ""]) => ({ number: Number(number), boot }));
    });
  }

  async #assertRecords(): Promise<void> {
    const before = this.acknowledged();
    const last = Math.max(0, ...before.map(({ number }) => number));
    const records = await until("the guest writes on", async () => {
      const now = await this.records();
      return now.length > last ? now : undefined;
    });
    const numbers = records.map(({ number }) => number);
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index + 1),
      "each record is there once, in order",
    );
    const told = this.acknowledged().filter(({ number }) => number <= records.length);
    for (const { number, boot } of told) {
      assert.equal(records[number - 1]?.boot, boot, `acknowledged record ${number} is lost`);
    }
    assert.ok(told.length > 0);
    const twice = told.filter(
      ({ number }, at) => told.findIndex((x) => x.number === number) !== at,
    );
    assert.deepEqual(twice, [], "no number is acknowledged twice");
  }

  async #isTidy(cloud: TestCloud, id: string | undefined): Promise<true> {
    const { machines } = await cloud.call("machine.list", {});
    const marked = machines.filter(({ migration }) => migration !== undefined);
    assert.deepEqual(marked, [], "no machine is marked");
    const incoming = join(cloud.root, "incoming");
    const { components } = await cloud.call("component.list", {});
    for (const component of components) {
      const { pinnedBy } = await cloud.call("component.show", { component: component.id });
      const own = pinnedBy.filter((owner) => owner.startsWith("migration:"));
      assert.deepEqual(own, [], `pins of a migration${id === undefined ? "" : ` (${id})`}`);
    }
    const left = existsSync(incoming) ? readdirSync(incoming) : [];
    assert.deepEqual(left, [], "nothing is incoming");
    return true;
  }
}

/** The answer; undefined when the agent died in place of giving one. */
export async function unlessItDied<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (hasCode(error, "cli.agent-hung-up") || hasCode(error, "cli.agent-unreachable")) return;
    throw error;
  }
}

export type Role = "source" | "destination";

export interface MachineOptions {
  readonly name?: string;
  readonly programs?: readonly string[];
  readonly cpus?: number;
  /** Bytes that no compressor shrinks, in a file of the user data block. */
  readonly noiseBytes?: number;
}

/** Makes a stopped machine at cloud `a`; gives its UUID. */
export async function makeMachine(
  { a }: Federation,
  { name = "traveller", programs = [], cpus = 1, noiseBytes = 0 }: MachineOptions = {},
): Promise<string> {
  const text = APPLIANCE(name, programs, cpus);
  await a.call("appliance.add", { text, fileName: `${name}.yaml` });
  const contentBase64 = randomBytes(noiseBytes).toString("base64");
  const files = noiseBytes === 0 ? [] : [{ path: "/noise", contentBase64 }];
  return (await a.call("machine.create", { name, appliance: name, files })).uuid;
}

/** Makes a machine at cloud `a`, starts it, and waits for its first acknowledged record. */
export async function startJourney(
  federation: Federation,
  options: MachineOptions = {},
): Promise<Journey> {
  const uuid = await makeMachine(federation, options);
  await federation.a.call("machine.start", { machine: uuid });
  const journey = new Journey(federation, uuid);
  await until("the first record", () => (journey.acknowledged().length > 0 ? true : undefined));
  return journey;
}
