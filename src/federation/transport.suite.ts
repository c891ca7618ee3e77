import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { hasCode, TesseraError, type Json } from "#core";
import { misses, sees, testOffer, until } from "./clouds.suite.ts";
import type { AgentMessage, FederationTransport, MessageHandler } from "./contract.ts";

/** Two clouds, alpha and beta, that know each other. */
export interface TransportPair {
  /** A new transport of the cloud, not started. */
  make(cloud: "alpha" | "beta"): FederationTransport;
  stop(): Promise<void>;
}

const message = (body: Json, action: AgentMessage["action"] = "session-info"): AgentMessage => ({
  session: "3f0c",
  action,
  body,
});

const tooLarge = (error: unknown): boolean => hasCode(error, "federation.too-large");

const echo: MessageHandler = async (from, { session, action, body }) => ({
  from,
  session,
  action,
  body,
});

/** What every implementation of {@link FederationTransport} must do. */
export function transportSuite(name: string, open: () => Promise<TransportPair>): void {
  describe(`transport: ${name}`, () => {
    let pair: TransportPair;
    let alpha: FederationTransport;
    let beta: FederationTransport;
    let answer: MessageHandler = echo;

    before(async () => {
      pair = await open();
      alpha = pair.make("alpha");
      beta = pair.make("beta");
      await Promise.all([alpha.start(echo), beta.start((from, asked) => answer(from, asked))]);
      await Promise.all([sees(alpha, "beta"), sees(beta, "alpha")]);
    });

    after(async () => {
      await Promise.all([alpha.stop(), beta.stop()]);
      await pair.stop();
    });

    it("shows each cloud the other and not itself", () => {
      assert.deepEqual(
        alpha.peers().map(({ cloud }) => cloud),
        ["beta"],
      );
      assert.deepEqual(
        beta.peers().map(({ cloud }) => cloud),
        ["alpha"],
      );
    });

    it("refuses to confirm an offer that was never made", async () => {
      await assert.rejects(alpha.confirmOffer("beta"), (error) => {
        assert.ok(hasCode(error, "federation.refused"));
        assert.equal(error.subject, "federation.no-offer");
        return true;
      });
    });

    it("carries offers as hints and confirms them", async () => {
      await beta.announce(testOffer("beta", 7));
      const seqOf = (): number | undefined => alpha.peers()[0]?.offer?.seq;
      await until(alpha, "the offer arrives", () => seqOf() === 7);
      const confirmed = await alpha.confirmOffer("beta");
      assert.equal(confirmed.seq, 7);
      assert.ok(confirmed.expires_ms > Date.now());
      assert.deepEqual(confirmed.repository, testOffer("beta", 7).repository);
      await beta.announce(testOffer("beta", 8));
      await until(alpha, "the new offer arrives", () => seqOf() === 8);
    });

    it("ignores an offer that is older than the one known", async () => {
      await beta.announce(testOffer("beta", 20));
      await until(alpha, "offer 20", () => alpha.peers()[0]?.offer?.seq === 20);
      await beta.announce(testOffer("beta", 19));
      // The confirmation comes after the presence on the same way, so the offer has arrived.
      assert.equal((await alpha.confirmOffer("beta")).seq, 19);
      assert.equal(alpha.peers()[0]?.offer?.seq, 20);
    });

    it("brings a request to the handler and its answer back", async () => {
      const actions = [
        "plan-get",
        "component-offer",
        "component-find",
        "session-initiate",
        "session-terminate",
      ] as const;
      for (const action of actions) {
        const body = { text: 'quoted "<&>" \u00e9 \u{1f600}\n', list: [1, null, { deep: true }] };
        const reply = await alpha.request("beta", message(body, action));
        assert.deepEqual(reply, { from: "alpha", session: "3f0c", action, body });
      }
    });

    it("keeps answers apart when many are asked at once", async () => {
      const replies = await Promise.all(
        Array.from({ length: 40 }, (_, index) => alpha.request("beta", message(index))),
      );
      assert.deepEqual(
        replies.map((reply) => (reply as { body: number }).body),
        Array.from({ length: 40 }, (_, index) => index),
      );
    });

    it("surfaces the handler's error with its code, fault and remedy", async () => {
      const given = { subject: "vm-1", remedy: "free some disk" };
      answer = async () => {
        throw new TesseraError("environment", "system.disk-full", "no room left", given);
      };
      await assert.rejects(alpha.request("beta", message(null)), (error) => {
        assert.ok(hasCode(error, "federation.refused"));
        assert.equal(error.subject, "system.disk-full");
        const { cause } = error;
        assert.ok(hasCode(cause, "system.disk-full"));
        assert.deepEqual(
          [cause.fault, cause.subject, cause.remedy],
          ["environment", "vm-1", "free some disk"],
        );
        return true;
      });
      answer = echo;
    });

    it("gives up on a handler that does not answer in time", async () => {
      const release = Promise.withResolvers<Json>();
      answer = () => release.promise;
      const asked = alpha.request("beta", message(null), 200);
      await assert.rejects(asked, (error) => hasCode(error, "federation.timeout"));
      release.resolve("too late");
      answer = echo;
      assert.ok(await alpha.request("beta", message("next")));
    });

    it("refuses to send what is too large, and says so when an answer is", async () => {
      const large = "x".repeat(210_000);
      await assert.rejects(alpha.request("beta", message(large)), tooLarge);
      answer = async () => large;
      await assert.rejects(alpha.request("beta", message(null)), (error) => {
        assert.ok(hasCode(error, "federation.refused"));
        return tooLarge(error.cause);
      });
      answer = echo;
    });

    it("carries a message of a thousand digests", async () => {
      const digests = Array.from(
        { length: 1000 },
        (_, index) => `sha256:${String(index).padStart(64, "0")}`,
      );
      const reply = (await alpha.request("beta", message(digests))) as { body: string[] };
      assert.equal(reply.body.length, 1000);
    });

    it("reports a cloud that is not there as unreachable", async () => {
      await assert.rejects(alpha.request("gamma", message(null)), (error) =>
        hasCode(error, "federation.unreachable"),
      );
    });

    it("notices when a peer goes and when it comes back", async () => {
      await beta.stop();
      await misses(alpha, "beta");
      await assert.rejects(alpha.request("beta", message(null)), (error) =>
        hasCode(error, "federation.unreachable"),
      );
      beta = pair.make("beta");
      await beta.start((from, asked) => answer(from, asked));
      await beta.announce(testOffer("beta", 1));
      await until(alpha, "its new offer", () => alpha.peers()[0]?.offer?.seq === 1);
      assert.ok(await alpha.request("beta", message("again")));
    });
  });
}
