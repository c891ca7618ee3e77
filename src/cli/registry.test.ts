import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Handlers } from "#api";
import { runWith, withAgent } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

const REFERENCE = "oci://registry.example/nginx:1";

const carrying: Partial<Handlers> = {
  "component.push": () =>
    Promise.resolve({ component: sample.NGINX, reference: REFERENCE, movedBytes: 0 }),
  "component.pull": (_, { progress }) => {
    progress({ blob: sample.NGINX.id, doneBytes: 5, totalBytes: 10 });
    return Promise.resolve({ component: sample.NGINX, reference: REFERENCE, movedBytes: 1e6 });
  },
};

test("push and pull hand the agent what the user's files say", async () => {
  await withAgent(carrying, async (agent) => {
    const at = (name: string): string => join(agent.directory, name);
    await writeFile(at("secret"), "correct horse\n");
    await writeFile(at("ca.pem"), "PEM");
    await mkdir(at("docker"));
    await writeFile(at("docker/config.json"), '{"auths":{}}');
    const flags = ["--username", "ci", "--password-file", "secret", "--ca-file", "ca.pem"];
    const pushed = await runWith(agent, ["component", "push", "nginx", REFERENCE, ...flags]);
    assert.equal(pushed.code, 0, pushed.err);
    assert.equal(pushed.out, `${REFERENCE}: sent nothing, as all is there\n`);
    const environment = { TESSERA_AGENT: agent.socketPath, DOCKER_CONFIG: at("docker") };
    const pulled = await runWith(agent, ["component", "pull", REFERENCE, "--plain-http"], {
      environment,
    });
    assert.equal(pulled.code, 0, pulled.err);
    assert.match(pulled.out, /^program {2}nginx/m);
    assert.match(pulled.err, /"doneBytes":5/);
    assert.match(pulled.err, /^fetched 1\.0 MB$/m);
    const named = await runWith(
      agent,
      ["component", "pull", REFERENCE, "--auth-file", "docker/config.json"],
      {},
    );
    assert.equal(named.code, 0, named.err);
    assert.deepEqual(
      agent.calls.map(({ input }) => input),
      [
        {
          component: "nginx",
          to: REFERENCE,
          access: { username: "ci", password: "correct horse", ca: "PEM" },
        },
        { from: REFERENCE, access: { authFile: '{"auths":{}}', plainHttp: true } },
        { from: REFERENCE, access: { authFile: '{"auths":{}}' } },
      ],
    );
  });
});
