import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Handlers, Output } from "#api";
import { parseAppliance } from "#compose";
import { referenceOf } from "#core";
import { runWith, withAgent, type Agent } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

const SELECTION: Output<"machine.select"> = {
  features: [
    {
      wish: "kernel",
      kind: "kernel",
      component: referenceOf(sample.KERNEL),
      held: true,
      clouds: [],
    },
    {
      wish: "nginx",
      kind: "program",
      component: referenceOf(sample.NGINX),
      held: false,
      clouds: ["capri"],
    },
  ],
  unmet: [],
  fits: true,
  fetchBytes: sample.NGINX.sizeBytes,
};

const NONE: Output<"machine.select"> = {
  ...SELECTION,
  features: [
    { wish: "x@>=2", kind: "program", held: false, clouds: [], reason: "there is x 1 (held)" },
  ],
  fits: false,
  fetchBytes: 0,
};

const making = (selection: Output<"machine.select">): Partial<Handlers> => ({
  "machine.select": () => Promise.resolve(selection),
  "machine.create": () => Promise.resolve(sample.MACHINE),
});

const create = (agent: Agent, line: string) =>
  runWith(agent, ["machine", "create", "web-1", ...line.split(" ").filter(Boolean)]);

test("flags become an appliance file, and what is fetched is said before", async () => {
  await withAgent(making(SELECTION), async (agent) => {
    const flags =
      "--kernel kernel-cloud --os debian-12@~12 --program nginx@>=1.22,<2 --program redis --cpus 2 --memory 1G --data 10G --port http=80:8080 --service-level downtimeMax=2s --service-level regions=eu,us --service-level maySlowDown=false";
    const made = await create(agent, flags);
    assert.equal(made.code, 0, made.err);
    assert.match(made.err, /nginx 1\.22\.1-9 +4\.5 MB +to fetch from capri/);
    assert.match(made.err, /fits, at most 4\.5 MB to fetch/);
    const [{ input: asked } = { input: undefined }, { input } = { input: undefined }] = agent.calls;
    const { features } = asked as { features: { text: string; fileName: string } };
    assert.deepEqual(input, { name: "web-1", files: [], features });
    assert.deepEqual(parseAppliance(features.text, features.fileName), {
      name: "web-1",
      kernel: "kernel-cloud",
      os: "debian-12@~12",
      programs: ["nginx@>=1.22,<2", "redis"],
      resources: {
        cpus: 2,
        memoryBytes: 2 ** 30,
        dataBytes: 10 * 2 ** 30,
        ports: [{ name: "http", guest: 80, host: 8080 }],
      },
      serviceLevel: {
        downtimeMax_ms: 2000,
        clouds: [],
        regions: ["eu", "us"],
        priority: 50,
        maySlowDown: false,
      },
    });
  });
});

test("a dry run makes nothing; where nothing fits the exit code is 3", async () => {
  await withAgent(making(NONE), async (agent) => {
    await writeFile(join(agent.directory, "web.yaml"), "name: web\n");
    const dry = await create(agent, "--features web.yaml --dry-run");
    assert.equal(dry.code, 3);
    assert.match(dry.out, /^x@>=2 +- +- +there is x 1 \(held\)$/m);
    assert.match(dry.out, /^does not fit$/m);
    assert.deepEqual(
      agent.calls.map(({ name, input }) => [name, input]),
      [["machine.select", { features: { fileName: "web.yaml", text: "name: web\n" } }]],
    );
  });
});

test("flags that do not go together are refused before the agent is asked", async () => {
  await withAgent({}, async (agent) => {
    for (const line of [
      "",
      "--kernel k",
      "--appliance web --kernel k --os o",
      "--appliance web --dry-run",
      "--features web.yaml --os o",
      "--kernel k --os o --cpus many",
      "--kernel k --os o --port 80",
      "--kernel k --os o --service-level speed=high",
    ]) {
      const refused = await create(agent, line);
      assert.equal(refused.code, 2, line);
    }
    assert.deepEqual(agent.calls, []);
  });
});
