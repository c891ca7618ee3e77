import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { realWorld } from "#system";
import { temporaryDirectory } from "./fixture.suite.ts";
import { fingerprintOf, loadOrCreateDataIdentity } from "./identity.ts";

test("an identity is made once, on P-256, for its owner's eyes only", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "identity");
  const world = realWorld();
  const made = await loadOrCreateDataIdentity(world, path);
  assert.deepEqual(await loadOrCreateDataIdentity(world, path), made);
  const certificate = new X509Certificate(made.certificatePem);
  assert.equal(made.certificate, fingerprintOf(certificate.raw));
  assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, "prime256v1");
  assert.ok(certificate.verify(certificate.publicKey), "self-signed");
  const names = await readdir(path);
  assert.deepEqual(names.toSorted(), ["data-certificate.pem", "data-key.pem"]);
  for (const name of names) assert.equal((await stat(join(path, name))).mode & 0o777, 0o600);
});

test("a key without its certificate is replaced, one that does not fit is refused", async () => {
  await using directory = await temporaryDirectory();
  const world = realWorld();
  const path = join(directory.path, "identity");
  const first = await loadOrCreateDataIdentity(world, path);
  // As after a crash between the two files.
  await rm(join(path, "data-certificate.pem"));
  const second = await loadOrCreateDataIdentity(world, path);
  assert.notEqual(second.certificate, first.certificate);
  const invalid = { code: "transfer.identity-invalid", fault: "corrupt" };
  await writeFile(join(path, "data-key.pem"), first.key);
  await assert.rejects(loadOrCreateDataIdentity(world, path), invalid);
  await writeFile(join(path, "data-key.pem"), "no key");
  await assert.rejects(loadOrCreateDataIdentity(world, path), invalid);
});
