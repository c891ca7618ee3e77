/** A Debian machine that was made without us is imported, proven equal, and boots. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createQemu } from "#hypervisor";
import { realWorld } from "#system";
import { testComponents } from "../support/components.ts";
import { importImage } from "../support/import-image.ts";
import { importedDisks, repositoryWith } from "../support/import-machine.ts";

const READY_MS = 300_000;
const STOP_MS = 120_000;

const world = realWorld();
const hypervisor = createQemu(world, { accelerator: "tcg" });

async function redisAnswer(port: number, command: string): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.setEncoding("utf8").setTimeout(60_000, () => socket.destroy(new Error("no answer")));
  try {
    socket.write(`${command}\r\n`);
    for await (const text of socket as AsyncIterable<string>) return text.trim();
    throw new Error("redis ended the connection");
  } finally {
    socket.destroy();
  }
}

function debugfs(path: string, request: string): string {
  const { stdout, status } = spawnSync("debugfs", ["-R", request, path], { encoding: "utf8" });
  assert.equal(status, 0);
  return stdout;
}

function assertSound(path: string): void {
  const { status, stdout } = spawnSync("e2fsck", ["-fn", path], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
}

test("an image of a Debian machine becomes components and user data, and boots", async (context) => {
  const path = importImage("first");
  const { store: built, ids } = await testComponents(["kernel-cloud"]);
  const directory = await mkdtemp(join(tmpdir(), "tessera-import-"));
  try {
    const kernel = ids["kernel-cloud"];
    assert.ok(kernel !== undefined);
    const store = await repositoryWith(world, join(directory, "repository"), built, kernel);
    const { specification, survey, parts, proof } = await importedDisks(
      world,
      store,
      path,
      directory,
    );
    const { packages, classes, leftFstab, volumes } = survey;
    const share = packages.intactBytes / packages.bytes;
    context.diagnostic(
      `${packages.count} packages, ${(100 * share).toFixed(1)}% of their bytes known`,
    );
    assert.equal(proof.imageDigest, proof.composedDigest);
    assert.ok(share > 0.9, `only ${share} of what packages brought became components`);
    assert.ok(proof.entries > 5000 && proof.bytes > 3e8, "too little was compared");
    assert.deepEqual(parts.map(({ kind }) => kind).slice(0, 3), ["kernel", "os", "program"]);
    assert.ok(parts.some(({ name }) => name === "redis-server"));
    assert.deepEqual(
      volumes.map(({ number, mountedAt }) => [number, mountedAt]),
      [[1, "/"]],
    );
    assert.equal(leftFstab.length, 2);
    assert.ok(classes.userData.bytes > 300e6, "the sparse file counts by its length");
    const { blocks } = await stat(specification.dataPath);
    assert.ok(blocks * 512 < 150e6, `${blocks * 512} bytes of user data are allocated`);
    assertSound(specification.dataPath);
    const notes = debugfs(specification.dataPath, "stat /upper/home/alice/notes");
    assert.match(notes, /mtime: 0x[0-9a-f]+:1d6f3454/, "the time has lost its fraction");
    assert.match(notes, /user\.note/);
    const machine = await hypervisor.start(specification);
    try {
      await machine.ready(READY_MS);
      assert.equal(await redisAnswer(machine.hostPorts["redis"] ?? 0, "PING"), "+PONG");
      assert.equal(await machine.stop(STOP_MS), "graceful");
    } finally {
      await machine.stop(0);
      await machine.detach();
    }
    assertSound(specification.dataPath);
    assert.equal(debugfs(specification.dataPath, "cat /upper/home/alice/hard"), "notes of first\n");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
