/** The data link breaks in the middle of a component and of the user data: both are resumed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { startFederation, type Federation } from "../support/federation.ts";
import { expectEnd } from "../support/fault-scene.ts";
import { startJourney, type Journey } from "../support/journey.ts";
import { startRelay, type Relay } from "../../src/transfer/relay.suite.ts";
import { addNoise } from "../support/tiny-components.ts";

const MIB = 2 ** 20;
const NOISE_BYTES = 18 * MIB;
/** What may travel twice when a link breaks once. */
const TWICE_BYTES_MAX = 8 * MIB;
/** Manifests, frames, and the parts of a machine that are not the noise. */
const REST_BYTES_MAX = 4 * MIB;
const RATE = 160e6;

let relay: Relay | undefined;
let opened: Promise<{ federation: Federation; relay: Relay }> | undefined;

/** Everything that leaves the first cloud goes through the relay. */
async function open(): Promise<{ federation: Federation; relay: Relay }> {
  const federation = await startFederation({
    prepare: async (cloud) => {
      if (cloud.name !== "alpha") return;
      const target = { host: "127.0.0.1", port: cloud.dataPort };
      relay = await startRelay({ target });
      const { port } = relay;
      cloud.configure((config) => {
        const data = config["data"] as Record<string, unknown>;
        data["advertise"] = [{ host: "127.0.0.1", port }];
      });
    },
  });
  assert.ok(relay !== undefined);
  return { federation, relay };
}

after(async () => {
  const known = await opened?.catch(() => undefined);
  await known?.federation.close();
  await relay?.close();
});

/** Moves the machine while the link is cut at each of these places; gives the bytes that left. */
async function moveWithCuts(
  journey: Journey,
  link: Relay,
  cuts: readonly number[],
): Promise<number> {
  const before = link.bytes().down;
  const connections = link.connections();
  link.setRate(RATE);
  const [first = 0, ...rest] = cuts;
  link.cutAfter(first);
  const id = await journey.depart();
  assert.ok(id !== undefined);
  let reached = first;
  for (const more of rest) {
    while (link.bytes().down < before + reached) await new Promise((go) => setTimeout(go, 5));
    link.cutAfter(more);
    reached += more;
  }
  await expectEnd(journey, id, "completed");
  link.setRate(undefined);
  assert.ok(link.connections() >= connections + 1 + cuts.length, "the link was cut");
  return link.bytes().down - before;
}

async function scene(): Promise<{ federation: Federation; relay: Relay }> {
  return await (opened ??= open());
}

test("a link that breaks twice within a component", async (context) => {
  const { federation, relay: link } = await scene();
  const still = await startJourney(federation, { name: "first" });
  await moveWithCuts(still, link, [5 * MIB]);
  const store = await openRepository(realWorld(), join(federation.a.root, "repository"));
  await addNoise(store, "noise", NOISE_BYTES, federation.base);
  const journey = await startJourney(federation, { name: "second", programs: ["noise"] });
  const sent = await moveWithCuts(journey, link, [5 * MIB, 7 * MIB]);
  const twice = sent - NOISE_BYTES;
  context.diagnostic(`${(twice / MIB).toFixed(2)} MiB beside the component itself, two cuts`);
  assert.ok(twice >= 0 && twice < 2 * TWICE_BYTES_MAX + REST_BYTES_MAX);
});

test("a link that breaks within the user data", async (context) => {
  const { federation, relay: link } = await scene();
  const journey = await startJourney(federation, { name: "third", noiseBytes: NOISE_BYTES });
  const sent = await moveWithCuts(journey, link, [11 * MIB]);
  const twice = sent - NOISE_BYTES;
  context.diagnostic(`${(twice / MIB).toFixed(2)} MiB beside the noise in the user data, one cut`);
  assert.ok(twice >= 0 && twice < TWICE_BYTES_MAX + REST_BYTES_MAX);
});
