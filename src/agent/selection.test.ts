import assert from "node:assert/strict";
import { test } from "node:test";
import { call, code } from "./handlers/call.suite.ts";
import { twoClouds } from "./clouds.suite.ts";

const RESOURCES = "resources: {cpus: 1, memory: 256M, data: 64M}";

function features(program: string, os = "os"): { fileName: string; text: string } {
  const text = `{name: app, kernel: kernel, os: '${os}', programs: ['${program}'], ${RESOURCES}}`;
  return { fileName: "app.yaml", text };
}

test("features that are held are chosen, and a machine is made of them", async (t) => {
  const [full] = (await twoClouds(t)).clouds;
  const wanted = features("web@>=1,<2");
  const selection = await call(full, "machine.select", { features: wanted });
  assert.equal(selection.fits, true);
  assert.equal(selection.fetchBytes, 0);
  assert.deepEqual(
    selection.features.map(({ wish, component, held }) => [wish, component?.version, held]),
    [
      ["kernel", "1", true],
      ["os", "1", true],
      ["web@>=1,<2", "1", true],
    ],
  );
  const machine = await call(full, "machine.create", { name: "web-1", features: wanted });
  assert.equal(machine.appliance.programs[0]?.name, "web");
  assert.equal((await call(full, "machine.start", { machine: "web-1" })).state, "running");
});

test("what another cloud holds is named, fetched from it, and composed", async (t) => {
  const [full, empty] = (await twoClouds(t, { held: ["kernel", "os"] })).clouds;
  const selection = await call(empty, "machine.select", { features: features("web") });
  assert.equal(selection.fits, true);
  const [, , web] = selection.features;
  assert.deepEqual([web?.held, web?.clouds], [false, [full.name]]);
  assert.equal(selection.fetchBytes, web?.component?.sizeBytes);
  assert.deepEqual(
    (await empty.parts.store.list()).map(({ description }) => description.name),
    ["kernel", "os"],
  );
  await call(empty, "machine.create", { name: "web-1", features: features("web") });
  const fetched = await empty.parts.store.resolve("web");
  assert.deepEqual((await empty.parts.store.verify(fetched.id)).findings, []);
  const owners = [...(await empty.parts.store.pins())].filter(([, ids]) =>
    ids.includes(fetched.id),
  );
  assert.deepEqual(
    owners.map(([owner]) => owner.split(":")[0]),
    ["machine"],
  );
});

test("where nothing fits, the feature and the nearest are named and nothing is left", async (t) => {
  const [full, empty] = (await twoClouds(t, { held: ["kernel", "os"] })).clouds;
  const refused = call(empty, "machine.create", { name: "x", features: features("web@>=2") });
  await assert.rejects(refused, (error: Error) => {
    assert.ok(code("compose.features-unmet")(error), String(error));
    assert.match(error.message, /no version of web meets >=2; there is web 1 \(at messina\)/);
    return true;
  });
  const unknown = await call(full, "machine.select", { features: features("webb", "oss") });
  assert.equal(unknown.fits, false);
  assert.deepEqual(
    unknown.features.map(({ reason }) => reason),
    [
      undefined,
      "there is no os of that name; nearest: os (held)",
      "there is no program of that name; nearest: web (held)",
    ],
  );
  assert.deepEqual((await call(empty, "machine.list", {})).machines, []);
  assert.equal([...(await empty.parts.store.pins())].length, 0);
  const both = call(full, "machine.create", { name: "x" });
  await assert.rejects(both, code("agent.machine-of-what"));
});

test("a cloud that does not help says nothing of what it holds", async (t) => {
  const config = { help: { enabled: false, sessions: 4, time: 60_000 } };
  const [full, strict] = (await twoClouds(t, { held: ["data"], config })).clouds;
  await call(full, "component.remove", { component: "data" });
  const none = await call(full, "machine.select", { features: features("data") });
  assert.equal(none.fits, false);
  assert.equal((await strict.parts.store.list()).length, 1);
});
