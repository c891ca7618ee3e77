/** Servers that die, clouds that come and go while all others stay up. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import {
  misses,
  sees,
  startClouds,
  until,
  type TestCloud,
  type TestClouds,
} from "./clouds.suite.ts";
import type { FederationTransport } from "./contract.ts";
import type { XmppTransport } from "./xmpp-transport.ts";

const world = realWorld();

async function talk(from: FederationTransport, to: string): Promise<void> {
  const message = { session: "s", action: "session-info", body: null } as const;
  assert.equal(await from.request(to, message, 5_000), "pong");
}

describe("recovery", () => {
  let clouds: TestClouds;
  let alpha: TestCloud;
  let beta: TestCloud;
  let atAlpha: XmppTransport;
  let atBeta: XmppTransport;

  before(async () => {
    clouds = await startClouds(world, ["alpha", "beta", "gamma"]);
    alpha = clouds.cloud("alpha");
    beta = clouds.cloud("beta");
    atAlpha = alpha.transport();
    atBeta = beta.transport();
    await Promise.all([atAlpha, atBeta].map((transport) => transport.start(async () => "pong")));
    await met();
  });
  after(async () => {
    await Promise.all([atAlpha.stop(), atBeta.stop()]);
    await clouds.stop();
  });

  async function met(): Promise<void> {
    await Promise.all([sees(atAlpha, "beta"), sees(atBeta, "alpha")]);
  }

  it("brings all back into the room when the server of the room was killed", async () => {
    // Beta's agent is a ghost then: its own server runs, and only asking the room tells it.
    const lost = Promise.all([misses(atAlpha, "beta"), misses(atBeta, "alpha")]);
    await alpha.restart();
    await lost;
    await met();
    await Promise.all([talk(atAlpha, "beta"), talk(atBeta, "alpha")]);
  });

  it("brings an agent back when its own server was killed", async () => {
    const lost = misses(atBeta, "alpha");
    await beta.restart();
    await lost;
    await met();
    await until(atAlpha, "alpha sees beta's new session", () => atAlpha.peers().length === 1);
    await Promise.all([talk(atAlpha, "beta"), talk(atBeta, "alpha")]);
  });

  it("lets a cloud in while all run, and puts it out again", async () => {
    const gamma = clouds.cloud("gamma");
    const listed = alpha.peers;
    alpha.peers = listed.filter(({ cloud }) => cloud !== "gamma");
    await Promise.all([alpha.admit(), atAlpha.refreshPeers()]);
    const atGamma = gamma.transport();
    await atGamma.start(async () => "pong");
    assert.deepEqual(atGamma.peers(), []);
    alpha.peers = listed;
    await Promise.all([alpha.admit(), atAlpha.refreshPeers()]);
    await Promise.all([sees(atGamma, "alpha"), sees(atGamma, "beta"), sees(atAlpha, "gamma")]);
    await talk(atGamma, "beta");
    await talk(atGamma, "alpha");
    alpha.peers = listed.filter(({ cloud }) => cloud !== "gamma");
    await Promise.all([alpha.admit(), atAlpha.refreshPeers()]);
    await misses(atGamma, "alpha");
    const message = { session: "s", action: "session-info", body: null } as const;
    await assert.rejects(atGamma.request("alpha", message, 1_000), (error) =>
      hasCode(error, "federation.unreachable"),
    );
    await met();
    await talk(atAlpha, "beta");
    await atGamma.stop();
  });
});
