/** Against a real docker-registry, and read back by skopeo. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "#core";
import { pullComponent } from "./pull.ts";
import { pushComponent } from "./push.ts";
import { parseReference } from "./reference.ts";
import {
  addProgram,
  afterBytes,
  CREDENTIALS,
  cuttingRelay,
  hastyWorld,
  repositoryIn,
  run,
  startRegistry,
} from "./registry.suite.ts";

const MIB = 2 ** 20;

test("with TLS and htpasswd a component goes, comes back equal, and skopeo reads it", async (t) => {
  const { host, ca = "", directory } = await startRegistry(t, { secure: true });
  const [here, there] = [await repositoryIn(t), await repositoryIn(t)];
  const component = await addProgram(here, "nginx", MIB);
  const access = { credentials: CREDENTIALS, ca };
  const target = parseReference(`oci://${host}/cloud/program/nginx`);
  const sent = await pushComponent(hastyWorld(), here, component, { target, access });
  assert.equal(sent.reference, `oci://${host}/cloud/program/nginx:1.0-rc1-b2`);
  assert.ok(sent.movedBytes > MIB);
  const again = await pushComponent(hastyWorld(), here, component, { target, access });
  assert.equal(again.movedBytes, 0);

  const from = parseReference(sent.reference);
  const got = await pullComponent(hastyWorld(), there, { target: from, access });
  assert.deepEqual(got.component, component);
  assert.deepEqual((await there.verify()).findings, []);
  assert.deepEqual(await there.fragments(component.id), await here.fragments(component.id));
  const held = await pullComponent(hastyWorld(), there, { target: from, access });
  assert.equal(held.movedBytes, 0);

  const image = `docker://${host}/cloud/program/nginx:1.0-rc1-b2`;
  const creds = `${CREDENTIALS.username}:${CREDENTIALS.password}`;
  const flags = ["inspect", "--cert-dir", directory, "--creds", creds];
  const raw = JSON.parse((await run("skopeo", [...flags, "--raw", image])).stdout);
  assert.equal(raw.config.mediaType, "application/vnd.tessera.component.v1+json");
  assert.equal(raw.layers[0].digest, component.id);
});

const refused = (error: unknown): boolean => hasCode(error, "registry.access-refused");

test("who has no password, or a wrong one, or does not know the authority, is refused", async (t) => {
  const { host, ca = "" } = await startRegistry(t, { secure: true });
  const store = await repositoryIn(t);
  const target = parseReference(`oci://${host}/x:1`);
  const pull = (access: object) => pullComponent(hastyWorld(), store, { target, access });
  await assert.rejects(pull({ ca }), refused);
  const wrong = { ...CREDENTIALS, password: "wrong" };
  await assert.rejects(pull({ ca, credentials: wrong }), refused);
  const other = await startRegistry(t, { secure: true });
  await assert.rejects(pull({ ca: other.ca ?? "", credentials: CREDENTIALS }), (error: unknown) =>
    hasCode(error, "registry.unreachable"),
  );
  const missing = pull({ ca, credentials: CREDENTIALS });
  await assert.rejects(missing, (error: unknown) => hasCode(error, "registry.manifest-not-found"));
});

test("an upload and a download that are cut go on where they were", async (t) => {
  const { port } = await startRegistry(t);
  const [here, there] = [await repositoryIn(t), await repositoryIn(t)];
  const component = await addProgram(here, "big", 9 * MIB);
  let chunks = 0;
  const up = await cuttingRelay(t, port, {
    from: "client",
    times: 2,
    // As the second and the third chunk of the image begin; the first two blobs are one chunk each.
    when: (_, bytes) => bytes.subarray(0, 6).toString() === "PATCH " && (chunks += 1) > 2,
  });
  const sent = await pushComponent(hastyWorld(), here, component, {
    target: parseReference(`oci://${up.host}/big:1`),
    access: {},
  });
  assert.equal(up.cuts(), 2);
  // What the registry had did not travel again.
  assert.ok(sent.movedBytes <= component.sizeBytes + 2 ** 16, String(sent.movedBytes));
  const down = await cuttingRelay(t, port, afterBytes("server", 4 * MIB, 2));
  const got = await pullComponent(hastyWorld(), there, {
    target: parseReference(`oci://${down.host}/big:1`),
    access: {},
  });
  assert.equal(down.cuts(), 2);
  assert.deepEqual(got.component, component);
  assert.deepEqual((await there.verify()).findings, []);
});

test("where the registry forgets an upload that was cut within a chunk, it begins anew", async (t) => {
  const { port } = await startRegistry(t);
  const here = await repositoryIn(t);
  const component = await addProgram(here, "big", 5 * MIB);
  const relay = await cuttingRelay(t, port, afterBytes("client", 4.5 * MIB, 1));
  const sent = await pushComponent(hastyWorld(), here, component, {
    target: parseReference(`oci://${relay.host}/big:1`),
    access: {},
  });
  assert.equal(relay.cuts(), 1);
  assert.ok(sent.movedBytes >= component.sizeBytes);
});

test("a pull that gave up goes on the next time", async (t) => {
  const { port, host } = await startRegistry(t);
  const [here, there] = [await repositoryIn(t), await repositoryIn(t)];
  const component = await addProgram(here, "late", 6 * MIB);
  const sound = { target: parseReference(`oci://${host}/late:1`), access: {} };
  await pushComponent(hastyWorld(), here, component, sound);
  const bad = await cuttingRelay(t, port, afterBytes("server", 3 * MIB, 99));
  const cut = pullComponent(
    hastyWorld(),
    there,
    { target: parseReference(`oci://${bad.host}/late:1`), access: {} },
    { attemptsMax: 1 },
  );
  await assert.rejects(cut, (error: unknown) => hasCode(error, "registry.unreachable"));
  assert.deepEqual(await there.list(), []);
  const got = await pullComponent(hastyWorld(), there, sound);
  assert.ok(got.movedBytes < 4 * MIB, String(got.movedBytes));
  assert.deepEqual(got.component, component);
});
