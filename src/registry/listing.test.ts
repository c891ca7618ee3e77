/** Lists of registries: what is no component, pages, and registries that lie. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { hasCode } from "#core";
import { MANIFEST_TYPE } from "#repository";
import { listComponents, listRepositories } from "./listing.ts";
import { addProgram, blobsOf, hastyWorld, repositoryIn, startServer } from "./registry.suite.ts";

function json(response: ServerResponse, value: unknown, headers: Record<string, string> = {}) {
  response.writeHead(200, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

const at = (host: string) => ({ target: { host, name: "cloud" }, access: {} });
const lies = (error: unknown) => hasCode(error, "registry.protocol");

test("components are told from other artifacts, images and damaged manifests", async (t) => {
  const store = await repositoryIn(t);
  const component = await addProgram(store, "prog", 4096);
  const blobs = await blobsOf(store, component);
  const docker = "application/vnd.docker.distribution.manifest.v2+json";
  const { host, seen } = await startServer(t, ({ url }, response) => {
    if (url.includes("/tags/list")) {
      const tags = ["1.0", "chart", "image", "same", `sha256-${"a".repeat(64)}.sig`];
      return json(response, { name: "cloud", tags });
    }
    const reference = url.split("/").at(-1) ?? "";
    const ours = ["1.0", "same"].includes(reference) ? component.manifest.digest : reference;
    const blob = blobs.get(ours as typeof component.id);
    if (reference === "image") return json(response, {}, { "content-type": docker });
    if (reference === "chart") return json(response, {}, { "content-type": MANIFEST_TYPE });
    if (blob === undefined) return void response.writeHead(404).end();
    response.writeHead(200, { "content-type": MANIFEST_TYPE, "content-length": blob.length });
    response.end(blob);
  });
  const found = await listComponents(hastyWorld(), at(host));
  assert.deepEqual(found, [{ component, signatures: [] }]);
  assert.ok(seen.every(({ url }) => !url.includes(component.id)));
});

test("pages are followed, other repositories left out, and endless lists refused", async (t) => {
  const { host } = await startServer(t, ({ url }, response) => {
    if (url.includes("last=b")) return json(response, { repositories: ["cloud/b", "other/c"] });
    const link = '</v2/_catalog?last=b&n=500>; rel="next"';
    return json(response, { repositories: ["cloud/a", "cloudy/a"] }, { link });
  });
  assert.deepEqual(await listRepositories(hastyWorld(), at(host)), ["cloud/a", "cloud/b"]);
  const many = Array.from({ length: 2_000 }, (_, index) => `cloud/${index}`);
  const endless = await startServer(t, (_, response) =>
    json(response, { repositories: many }, { link: '</v2/_catalog?n=1>; rel="next"' }),
  );
  await assert.rejects(listRepositories(hastyWorld(), at(endless.host)), lies);
});

test("lists that are none, or missing, are told", async (t) => {
  const garbage = await startServer(t, (_, response) => json(response, { repositories: [1] }));
  await assert.rejects(listRepositories(hastyWorld(), at(garbage.host)), lies);
  const none = await startServer(t, (_, response) => void response.writeHead(404).end());
  assert.deepEqual(await listComponents(hastyWorld(), at(none.host)), []);
  await assert.rejects(listRepositories(hastyWorld(), at(none.host)), (error: unknown) =>
    hasCode(error, "registry.catalogue-missing"),
  );
});
