import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";
import { chooseHostPorts, portWasTaken } from "./ports.ts";

test("wished ports are kept, the others are free and distinct", async () => {
  const names = Array.from({ length: 20 }, (_, index) => `p${index}`);
  const chosen = await chooseHostPorts([
    { name: "ssh", guest: 22, host: 2222 },
    ...names.map((name) => ({ name, guest: 80, host: 0 })),
    { name: "last", guest: 443 },
  ]);
  assert.equal(chosen["ssh"], 2222);
  const ports = Object.values(chosen);
  assert.equal(new Set(ports).size, 22);
  const server = createServer().listen(chosen["last"], "127.0.0.1");
  await once(server, "listening");
  server.close();
});

test("QEMU's complaint about a taken port is told from others", () => {
  const taken =
    "qemu-system-x86_64: -netdev user,id=n,hostfwd=tcp:127.0.0.1:80-:80: Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'";
  assert.ok(portWasTaken(taken));
  assert.ok(!portWasTaken("Could not open '/data': No such file or directory"));
});
