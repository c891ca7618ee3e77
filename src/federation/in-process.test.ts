import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { sees } from "./clouds.suite.ts";
import type { AgentKey, FederationTransport, PeerCard } from "./contract.ts";
import { createInProcessFederation, type Fate, type Passage } from "./in-process.ts";
import { temporaryAgentKey } from "./key.ts";
import { transportSuite } from "./transport.suite.ts";

const world = realWorld();
const keys = { alpha: temporaryAgentKey(), beta: temporaryAgentKey() };

function cardOf(cloud: "alpha" | "beta", key: AgentKey = keys[cloud]): PeerCard {
  const domain = `${cloud}.example`;
  return { cloud, domain, jid: `agent@${domain}`, agentKey: key.publicKey };
}

transportSuite("in process", async () => {
  const federation = createInProcessFederation(world);
  return {
    make: (cloud) =>
      federation.join(cloud, keys[cloud], () => [cardOf(cloud === "alpha" ? "beta" : "alpha")]),
    stop: async () => {},
  };
});

async function meet(fate: (passage: Passage) => Fate, betaKey = keys.beta) {
  const federation = createInProcessFederation(world, fate);
  const alpha = federation.join("alpha", keys.alpha, () => [cardOf("beta")]);
  const beta = federation.join("beta", betaKey, () => [cardOf("alpha")]);
  let handled = 0;
  await alpha.start(async () => null);
  await beta.start(async (_, { body }) => {
    handled += 1;
    return body;
  });
  await sees(alpha, "beta");
  const stop = (): Promise<unknown> => Promise.all([alpha.stop(), beta.stop()]);
  return { alpha, handled: () => handled, stop };
}

function ask(alpha: FederationTransport, timeout_ms = 100): Promise<unknown> {
  return alpha.request("beta", { session: "s", action: "session-info", body: "hello" }, timeout_ms);
}

describe("faults of the in-process federation", () => {
  for (const kind of ["request", "answer"] as const) {
    it(`loses the ${kind}`, async () => {
      const { alpha, handled, stop } = await meet((passage) => ({
        kind: passage.kind === kind ? "drop" : "pass",
      }));
      await assert.rejects(ask(alpha), (error) => hasCode(error, "federation.timeout"));
      assert.equal(handled(), kind === "request" ? 0 : 1);
      await stop();
    });
  }

  it("duplicates a request, which is handled once", async () => {
    const { alpha, handled, stop } = await meet(() => ({ kind: "duplicate" }));
    assert.equal(await ask(alpha), "hello");
    assert.equal(handled(), 1);
    await stop();
  });

  it("delays a request", async () => {
    const { alpha, stop } = await meet(() => ({ kind: "delay", delay_ms: 20 }));
    assert.equal(await ask(alpha, 5000), "hello");
    await stop();
  });

  it("tampers with an answer, which is noticed", async () => {
    const { alpha, stop } = await meet(({ kind, sealed }) =>
      kind === "request"
        ? { kind: "pass" }
        : { kind: "tamper", sealed: { ...sealed, text: sealed.text.replace("hello", "other") } },
    );
    await assert.rejects(ask(alpha), (error) => hasCode(error, "federation.forged"));
    await stop();
  });

  it("refuses the answer of a cloud with another key than the pinned one", async () => {
    const { alpha, stop } = await meet(() => ({ kind: "pass" }), temporaryAgentKey());
    await assert.rejects(ask(alpha), (error) => hasCode(error, "federation.forged"));
    await stop();
  });
});
