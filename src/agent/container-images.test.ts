/** Container images as users give them, from a real docker-registry too. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ociLayout } from "../import/container/container.suite.ts";
import { CREDENTIALS, run, startRegistry } from "../registry/registry.suite.ts";
import { twoClouds } from "./clouds.suite.ts";
import { call, code } from "./handlers/call.suite.ts";
import { layoutOf } from "./layout.ts";

test("an image comes from a registry, by platform, and only without a rule for signatures", async (t) => {
  const { host, ca = "", directory } = await startRegistry(t, { secure: true });
  const [cloud, strict] = (
    await twoClouds(t, { config: { signatures: { required: { [host]: ["builds"] } } } })
  ).clouds;
  const layer = {
    files: { "sbin/init": "init", "bin/tool": "tool" },
    compression: "gzip",
  } as const;
  const images = ["amd64", "arm64"].map((architecture) => ({
    architecture,
    tag: "1.2",
    layers: [layer, { files: { "srv/on": architecture }, compression: "none" as const }],
  }));
  const layout = await ociLayout(join(directory, "layout"), images, "1.2");
  const creds = `${CREDENTIALS.username}:${CREDENTIALS.password}`;
  const flags = [
    "--insecure-policy",
    "copy",
    "--all",
    "--dest-cert-dir",
    directory,
    "--dest-creds",
    creds,
  ];
  await run("skopeo", [...flags, `oci:${layout}:1.2`, `docker://${host}/shop/web:1.2`]).catch(
    () => undefined,
  );
  const access = { ca, ...CREDENTIALS };
  const source = { from: "container", path: `oci://${host}/shop/web:1.2`, access } as const;
  const { components } = await call(cloud, "component.add", {
    source: { ...source, layers: true },
  });
  assert.deepEqual(
    components.map(({ description: { name, version, kind } }) => `${kind} ${name} ${version}`),
    ["os web 1.2", "program web-layer-2 1.2"],
  );
  const work = await cloud.world.files.list(layoutOf(cloud.root).work);
  assert.deepEqual(work, []);
  const local = { from: "container", path: layout, platform: "linux/arm64", name: "arm" } as const;
  const arm = await call(cloud, "component.add", { source: local });
  assert.equal(arm.components[0]?.description.architecture, "arm64");
  await assert.rejects(call(strict, "component.add", { source }), code("agent.signature-refused"));
  const none = { from: "container", path: join(directory, "none") } as const;
  await assert.rejects(call(cloud, "component.add", { source: none }), code("agent.path-missing"));
});
