import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { canonicalJson, hasCode, type Json } from "#core";
import { realWorld } from "#system";
import { cardFingerprint, encodeCard, parseCard, validateCard } from "./card.ts";
import { testOffer } from "./clouds.suite.ts";
import { seal, unseal, type Envelope } from "./envelope.ts";
import { boundedJson } from "./json.ts";
import { loadOrCreateAgentKey, temporaryAgentKey, verifySignature } from "./key.ts";
import { decodeOffer, encodeOffer } from "./offer.ts";
import { ReplayCache } from "./replay.ts";

const key = temporaryAgentKey();
const card = {
  cloud: "alpha",
  domain: "alpha.example",
  jid: "agent@alpha.example",
  agentKey: key.publicKey,
  xmppCa: "-----BEGIN CERTIFICATE-----\n",
  xmppAddress: { host: "127.0.0.1", port: 5269 },
};
const malformed = (error: unknown): boolean => hasCode(error, "federation.malformed");
const forged = (error: unknown): boolean => hasCode(error, "federation.forged");

describe("agent key", () => {
  it("is made once, is private, and is refused when it is broken", async (context) => {
    const world = realWorld();
    const directory = await mkdtemp(join(tmpdir(), "tessera-key-"));
    context.after(() => rm(directory, { recursive: true, force: true }));
    const path = join(directory, "agent.pem");
    const made = await loadOrCreateAgentKey(world, path);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.equal((await loadOrCreateAgentKey(world, path)).publicKey, made.publicKey);
    await writeFile(path, "nonsense");
    const again = loadOrCreateAgentKey(world, path);
    await assert.rejects(again, (error) => hasCode(error, "federation.key-invalid"));
  });

  it("verifies its own signatures over the same bytes and nothing else", () => {
    const bytes = Buffer.from("bytes");
    const signature = key.sign(bytes);
    assert.ok(verifySignature(key.publicKey, bytes, signature));
    assert.ok(!verifySignature(key.publicKey, Buffer.from("bytez"), signature));
    assert.ok(!verifySignature(temporaryAgentKey().publicKey, bytes, signature));
    for (const nonsense of ["", "x", "A".repeat(60), "A".repeat(10_000)]) {
      assert.ok(!verifySignature(nonsense, bytes, signature));
      assert.ok(!verifySignature(key.publicKey, bytes, nonsense));
    }
  });
});

const invalid = (error: unknown): boolean => hasCode(error, "federation.card-invalid");

describe("card", () => {
  it("is read as it was written", () => {
    assert.deepEqual(parseCard(encodeCard(card)), card);
    const { xmppCa: _, xmppAddress: __, ...least } = card;
    assert.deepEqual(parseCard(encodeCard(least)), least);
    assert.match(cardFingerprint(card), /^sha256:/);
  });

  for (const [what, change] of [
    ["an address of another domain", { jid: "agent@beta.example" }],
    ["an address with a resource", { jid: "agent@alpha.example/x" }],
    ["a domain of one label", { domain: "alpha", jid: "agent@alpha" }],
    ["capital letters", { domain: "Alpha.example", jid: "agent@Alpha.example" }],
    ["a cloud that is a path", { cloud: "../etc" }],
    ["no key", { agentKey: "" }],
    ["half a key", { agentKey: key.publicKey.slice(0, 40) }],
    ["a port out of range", { xmppAddress: { host: "h", port: 70_000 } }],
    ["a host with a quote", { xmppAddress: { host: 'h"', port: 1 } }],
    ["a member that nobody knows", { extra: 1 }],
    ["a large CA", { xmppCa: "x".repeat(40_000) }],
  ] as const) {
    it(`is refused with ${what}`, () => {
      const changed = { ...card, ...change };
      assert.throws(() => validateCard(changed), invalid);
      assert.throws(() => parseCard(encodeCard(changed)), invalid);
    });
  }

  it("is refused when it is no card at all", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        assert.throws(() => parseCard(text), invalid);
      }),
    );
  });
});

describe("offer", () => {
  it("is read as it was written, and refused when a member is missing", () => {
    const offer = testOffer("alpha", 3);
    const text = encodeOffer(offer);
    assert.deepEqual(decodeOffer(text), offer);
    for (const name of Object.keys(offer)) {
      const { [name]: _, ...rest } = JSON.parse(text) as Record<string, Json>;
      assert.throws(() => decodeOffer(canonicalJson(rest)), malformed);
    }
  });

  it("is refused when it is larger than a presence should be", () => {
    assert.throws(() => decodeOffer(`${" ".repeat(30_000)}{}`), malformed);
  });
});

describe("envelope", () => {
  const head = {
    v: 1,
    kind: "request",
    from: "agent@alpha.example/a",
    to: "agent@beta.example/b",
    session: "s",
    action: "session-info",
    nonce: "0123456789abcdef",
    expires_ms: 1_000,
  } as const;
  const body = fc.jsonValue({ maxDepth: 5 }).map((value) => value as Json);

  it("is read as it was sealed", () => {
    fc.assert(
      fc.property(body, (value) => {
        const envelope: Envelope = { ...head, body: value };
        const opened = unseal(key.publicKey, seal(key, envelope));
        assert.equal(canonicalJson(opened), canonicalJson(envelope));
      }),
    );
  });

  it("does not open when one character is another", () => {
    fc.assert(
      fc.property(body, fc.nat(), fc.constantFrom("x", "0", " "), (value, at, character) => {
        const { text, signature } = seal(key, { ...head, body: value });
        const index = at % text.length;
        fc.pre(text[index] !== character);
        const changed = text.slice(0, index) + character + text.slice(index + 1);
        assert.throws(() => unseal(key.publicKey, { text: changed, signature }), forged);
      }),
    );
  });

  it("is refused when it is signed but not canonical, or has other members", () => {
    const canonical = canonicalJson({ ...head, body: null });
    const sign = (text: string) => ({
      text,
      signature: key.sign(Buffer.from(`tessera-federation-1\n${text}`)),
    });
    unseal(key.publicKey, sign(canonical));
    for (const text of [
      canonical.replace(",", ", "),
      canonical.replace('"v":1', '"v":2'),
      canonicalJson({ ...head, body: null, more: 1 }),
      canonicalJson(head),
      "[]",
      "null",
    ]) {
      assert.throws(() => unseal(key.publicKey, sign(text)), malformed);
    }
  });

  it("is not confused with another thing that the same key signs", () => {
    const text = canonicalJson({ ...head, body: null });
    const sealed = { text, signature: key.sign(Buffer.from(text)) };
    assert.throws(() => unseal(key.publicKey, sealed), forged);
  });
});

describe("bounded JSON", () => {
  it("counts depth outside strings only, and never overflows", () => {
    assert.equal(boundedJson(`"${"[".repeat(100)}"`, 1000), "[".repeat(100));
    assert.equal(boundedJson(String.raw`"\"[[["`, 1000), '"[[[');
    assert.throws(() => boundedJson("[".repeat(100_000), 200_000), malformed);
    assert.throws(() => boundedJson("[1]", 2), malformed);
  });
});

describe("replay cache", () => {
  it("takes a nonce once for each sender, and refuses rather than forgets too early", () => {
    const cache = new ReplayCache(2);
    cache.use("a", "n1", 100, 0);
    cache.use("b", "n1", 100, 0);
    assert.throws(
      () => cache.use("a", "n1", 100, 50),
      (error) => hasCode(error, "federation.replayed"),
    );
    cache.use("a", "n2", 200, 0);
    assert.throws(
      () => cache.use("a", "n3", 200, 50),
      (error) => hasCode(error, "federation.busy"),
    );
    cache.use("a", "n3", 200, 150);
    assert.throws(
      () => cache.use("a", "n2", 200, 150),
      (error) => hasCode(error, "federation.replayed"),
    );
  });
});
