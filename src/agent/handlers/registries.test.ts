import assert from "node:assert/strict";
import { test } from "node:test";
import { CREDENTIALS, startRegistry } from "../../registry/registry.suite.ts";
import { twoClouds } from "../clouds.suite.ts";
import { call, code } from "./call.suite.ts";

test("a component goes from cloud to cloud through a registry, as users name it", async (t) => {
  const [full, empty] = (await twoClouds(t)).clouds;
  const { host, ca = "" } = await startRegistry(t, { secure: true });
  const to = `oci://${host}/parts/web:stable`;
  const auth = Buffer.from(`${CREDENTIALS.username}:${CREDENTIALS.password}`).toString("base64");
  const access = { ca, authFile: JSON.stringify({ auths: { [host]: { auth } } }) };
  const pushed = await call(full, "component.push", { component: "web", to, access });
  assert.equal(pushed.reference, to);
  const pulled = await call(empty, "component.pull", { from: to, access: { ca, ...CREDENTIALS } });
  assert.deepEqual(pulled.component, await full.parts.store.resolve("web"));
  assert.equal(pulled.reference, `oci://${host}/parts/web@${pulled.component.manifest.digest}`);
  assert.equal((await empty.parts.offer()).repository.components, 1);
  const again = await call(empty, "component.pull", { from: to, access });
  assert.equal(again.movedBytes, 0);
});

test("bad names and half credentials are refused before anybody is asked", async (t) => {
  const [full] = (await twoClouds(t)).clouds;
  const push = (to: string, access: object) =>
    call(full, "component.push", { component: "web", to, access });
  await assert.rejects(push("oci://x", {}), code("registry.reference-invalid"));
  const half = push("oci://127.0.0.1:1/x", { username: "ci" });
  await assert.rejects(half, code("agent.credentials-incomplete"));
  const digest = `oci://127.0.0.1:1/x@sha256:${"0".repeat(64)}`;
  await assert.rejects(push(digest, {}), code("registry.reference-invalid"));
});
