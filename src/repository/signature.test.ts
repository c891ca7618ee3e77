import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import * as fc from "fast-check";
import type { ComponentSignature, Digest } from "#core";
import { describe, FRAGMENTS, imageOf, sourceOf, temporary } from "./fixtures.suite.ts";
import { openRepository } from "./open.ts";
import { packageSignatures, readSignatures, signedBytes } from "./signature.ts";
import { realWorld } from "#system";

const keyOf = (digit: string): Digest => `sha256:${digit.repeat(64)}`;

function signatureBy(digit: string): ComponentSignature {
  return { key: keyOf(digit), signature: randomBytes(64).toString("base64") };
}

const COMPONENT = { id: keyOf("a"), manifest: { digest: keyOf("b"), sizeBytes: 500 } };

test("what is signed names manifest and id, in a form that does not change", () => {
  assert.equal(
    Buffer.from(signedBytes(COMPONENT)).toString(),
    `{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"${keyOf("b")}"},"type":"cosign container image signature"},"optional":{"vnd.tessera.component.id":"${keyOf("a")}"}}`,
  );
});

test("signatures are packed and read again, but not as another component's", () => {
  const signatures = [signatureBy("1"), signatureBy("2")];
  const { manifest } = packageSignatures(COMPONENT, signatures);
  assert.deepEqual(readSignatures(COMPONENT, manifest.content), signatures);
  const turned = packageSignatures(COMPONENT, signatures.toReversed());
  assert.equal(turned.manifest.digest, manifest.digest);
  const other = { ...COMPONENT, id: keyOf("c") };
  assert.deepEqual(readSignatures(other, manifest.content), []);
});

test("whatever an artifact holds, reading it ends, with sound signatures or none", () => {
  const { manifest } = packageSignatures(COMPONENT, [signatureBy("1")]);
  const text = Buffer.from(manifest.content).toString();
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.string({ maxLength: 4 }), (at, put) => {
      const bytes = Buffer.from(text.slice(0, at) + put + text.slice(at + put.length));
      for (const { signature } of readSignatures(COMPONENT, bytes)) {
        assert.equal(Buffer.from(signature, "base64").length, 64);
      }
    }),
  );
  fc.assert(
    fc.property(fc.json(), (json) => {
      assert.deepEqual(readSignatures(COMPONENT, Buffer.from(json)), []);
    }),
  );
});

test("signatures are kept with their component, displace nothing of others, and go with it", async () => {
  await temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const image = await imageOf({ a: randomBytes(100) });
    const description = describe();
    const source = { description, fragments: FRAGMENTS, image: sourceOf(image) };
    const { id } = await store.add(source);
    assert.deepEqual(await store.signatures(id), []);
    const mine = signatureBy("1");
    await store.addSignatures(id, { signatures: [mine], own: true });
    const many = Array.from("23456789abcdef0", (digit) => signatureBy(digit));
    await store.addSignatures(id, { signatures: [signatureBy("1"), ...many], own: false });
    const kept = await store.signatures(id);
    assert.equal(kept.length, 16);
    assert.deepEqual(
      kept.find(({ key }) => key === mine.key),
      mine,
    );
    const later = signatureBy("1");
    await store.addSignatures(id, { signatures: [later], own: true });
    assert.ok((await store.signatures(id)).some(({ signature }) => signature === later.signature));
    assert.deepEqual((await store.verify()).findings, []);
    assert.equal((await store.list()).length, 1);
    // Those before are left to be collected; what is in force is not.
    await store.collect({ dryRun: false });
    assert.equal((await store.signatures(id)).length, 16);
    await store.remove(id);
    const again = await store.add(source);
    assert.deepEqual(await store.signatures(again.id), []);
    const { removed } = await store.collect({ dryRun: true });
    assert.ok(removed.length > 0);
  });
});

test("two who sign at the same time both count", async () => {
  await temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    const image = sourceOf(await imageOf({ a: randomBytes(100) }));
    const { id } = await store.add({ description: describe(), fragments: FRAGMENTS, image });
    const signatures = Array.from("12345", (digit) => signatureBy(digit));
    await Promise.all(
      signatures.map((one) => store.addSignatures(id, { signatures: [one], own: true })),
    );
    assert.equal((await store.signatures(id)).length, 5);
  });
});
