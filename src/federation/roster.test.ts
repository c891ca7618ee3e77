import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { World } from "#core";
import { realWorld } from "#system";
import { testOffer } from "./clouds.suite.ts";
import type { PeerCard } from "./contract.ts";
import { encodeOffer } from "./offer.ts";
import { Roster, SILENCE_MS } from "./roster.ts";

const OLD = "agent@beta.example/old";
const NEW = "agent@beta.example/new";
const card: PeerCard = {
  cloud: "beta",
  domain: "beta.example",
  jid: "agent@beta.example",
  agentKey: "",
};

function open() {
  const time = { now_ms: 1_000_000 };
  const real = realWorld();
  const world: World = { ...real, clock: { ...real.clock, now: () => time.now_ms } };
  const listed = { beta: true };
  const roster = new Roster(world, (address) =>
    listed.beta && address.startsWith("agent@beta.example/") ? card : undefined,
  );
  const changes = { count: 0 };
  roster.onChange(() => {
    changes.count += 1;
  });
  const offer = (seq: number): string => encodeOffer(testOffer("beta", seq, time.now_ms));
  return { roster, time, changes, listed, offer };
}

describe("roster", () => {
  it("knows nobody who is not a peer", () => {
    const { roster, changes } = open();
    roster.present("agent@gamma.example/x", undefined);
    assert.deepEqual([roster.peers(), changes.count], [[], 0]);
  });

  it("counts a cloud once, by its newest session, whichever speaks last", () => {
    const { roster, offer } = open();
    roster.present(OLD, offer(5));
    roster.present(NEW, offer(1));
    roster.present(OLD, offer(6));
    assert.deepEqual(
      roster.peers().map(({ jid, offer: seen }) => [jid, seen?.seq]),
      [[NEW, 1]],
    );
    roster.gone(NEW);
    assert.equal(roster.peers()[0]?.jid, OLD);
  });

  it("tells of changes and not of mere refreshes", () => {
    const { roster, changes, offer } = open();
    roster.present(OLD, offer(1));
    roster.present(OLD, offer(1));
    roster.present(OLD, undefined);
    assert.equal(changes.count, 1);
    roster.present(OLD, offer(2));
    assert.equal(changes.count, 2);
    assert.equal(roster.peers()[0]?.offer?.seq, 2);
  });

  it("drops an offer that has expired, and a peer that has been silent", () => {
    const { roster, time, offer, changes } = open();
    roster.present(OLD, offer(1));
    time.now_ms += 61_000;
    assert.deepEqual([roster.peers().length, roster.peers()[0]?.offer], [1, undefined]);
    time.now_ms += SILENCE_MS;
    assert.deepEqual(roster.peers(), []);
    roster.sweep();
    assert.equal(changes.count, 2);
  });

  it("forgets a peer that was taken off the list", () => {
    const { roster, listed, changes } = open();
    roster.present(OLD, undefined);
    listed.beta = false;
    assert.deepEqual(roster.peers(), []);
    roster.sweep();
    assert.equal(changes.count, 2);
  });

  it("keeps a peer whose offer cannot be read, without the offer", () => {
    const { roster } = open();
    for (const text of ["", "{", encodeOffer(testOffer("gamma", 1)), "[".repeat(9_000)]) {
      roster.present(OLD, text);
      assert.deepEqual([roster.peers().length, roster.peers()[0]?.offer], [1, undefined]);
    }
  });
});
