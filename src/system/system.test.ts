import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hasCode } from "#core";
import { lineLog, realWorld } from "./index.ts";

const world = realWorld();

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-system-"));
  try {
    await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

test("an atomic write replaces the whole file and leaves nothing beside it", () =>
  withDirectory(async (directory) => {
    const path = join(directory, "a");
    await world.files.writeFileAtomic(path, "one");
    await world.files.writeFileAtomic(path, "two", 0o600);
    assert.equal(await readFile(path, "utf8"), "two");
    assert.deepEqual(await world.files.list(directory), ["a"]);
    assert.equal((await world.files.status(path))?.mode, 0o600);
  }));

test("files have stable error codes and bounds", () =>
  withDirectory(async (directory) => {
    const path = join(directory, "missing");
    const { files } = world;
    await assert.rejects(files.readFile(path, 10), (e) => hasCode(e, "system.not-found"));
    await files.writeFileAtomic(path, "0123456789A");
    await assert.rejects(files.readFile(path, 10), (e) => hasCode(e, "system.too-large"));
    await assert.rejects(files.open(path, "exclusive"), (e) => hasCode(e, "system.exists"));
    assert.equal(await files.status(join(directory, "none")), undefined);
    await files.remove(join(directory, "none"));
  }));

test("a sparse file tells allocated from apparent size", () =>
  withDirectory(async (directory) => {
    const path = join(directory, "sparse");
    const file = await world.files.open(path, "create");
    await file.truncate(10 * 2 ** 20);
    await file.write(Buffer.from("end"), 10 * 2 ** 20 - 3);
    const buffer = Buffer.alloc(8);
    assert.equal(await file.read(buffer, 10 * 2 ** 20 - 3), 3);
    const { sizeBytes, allocatedBytes } = await file.status();
    await file.close();
    assert.equal(sizeBytes, 10 * 2 ** 20);
    assert.ok(allocatedBytes < 2 ** 20);
  }));

test("a command's exit code is a result; a missing program and a time-out are errors", async () => {
  const { processes } = world;
  const failed = await processes.run("sh", ["-c", "cat; echo oops >&2; exit 3"], { input: "in" });
  assert.equal(failed.exitCode, 3);
  assert.equal(Buffer.from(failed.output).toString(), "in");
  assert.equal(failed.errorText, "oops\n");
  const missing = processes.run("no-such-program-here", []);
  await assert.rejects(missing, (e) => hasCode(e, "system.program-missing"));
  const slow = processes.run("sleep", ["60"], { timeout_ms: 50 });
  await assert.rejects(slow, (e) => hasCode(e, "system.timeout"));
  const loud = processes.run("cat", ["/dev/zero"], { outputBytesMax: 1000 });
  await assert.rejects(loud, (e) => hasCode(e, "system.output-too-large"));
});

test("a process is known by pid and start time, and a zombie is not alive", () =>
  withDirectory(async (directory) => {
    const { processes } = world;
    const logFile = join(directory, "log");
    const { identity, exit } = await processes.start("sleep", ["60"], { logFile, life: "free" });
    assert.ok(processes.alive(identity));
    assert.ok(!processes.alive({ ...identity, startTicks: identity.startTicks + 1 }));
    assert.deepEqual(processes.identify(identity.pid), identity);
    processes.kill(identity, "SIGKILL");
    await exit;
    assert.ok(!processes.alive(identity));
    processes.kill(identity, "SIGKILL");
  }));

test("an own child ends when its parent is killed; a free one does not", () =>
  withDirectory(async (directory) => {
    const script = join(directory, "parent.ts");
    await writeFile(
      script,
      `import { realWorld } from ${JSON.stringify(join(import.meta.dirname, "index.ts"))};
       const { processes } = realWorld();
       const logFile = ${JSON.stringify(join(directory, "log"))};
       const own = await processes.start("sleep", ["61"], { logFile, life: "own" });
       const free = await processes.start("sleep", ["62"], { logFile, life: "free" });
       console.log(JSON.stringify([own.identity, free.identity]));
       await new Promise(() => { process.stdin.resume(); });`,
    );
    const parent = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"] });
    const line = await new Promise<string>((resolve) => {
      parent.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    });
    const [own, free] = JSON.parse(line) as [
      Parameters<typeof world.processes.alive>[0],
      Parameters<typeof world.processes.alive>[0],
    ];
    assert.ok(world.processes.alive(own));
    parent.kill("SIGKILL");
    const deadline = world.clock.monotonic() + 10_000;
    while (world.processes.alive(own) && world.clock.monotonic() < deadline) {
      await world.clock.sleep(5);
    }
    assert.ok(!world.processes.alive(own));
    assert.ok(world.processes.alive(free));
    world.processes.kill(free, "SIGKILL");
  }));

test("what /proc had of a process that has ended is no longer there", async () => {
  const child = spawn("sleep", ["600"], { stdio: "ignore" });
  const handle = await open(`/proc/${child.pid}`, "r");
  try {
    const tasks = `/proc/self/fd/${handle.fd}/task`;
    assert.deepEqual(await world.files.list(tasks), [String(child.pid)]);
    child.kill("SIGKILL");
    await once(child, "exit");
    assert.deepEqual(await world.files.list(tasks), []);
    assert.equal(await world.files.status(tasks), undefined);
  } finally {
    await handle.close();
  }
});

test("the log keeps its level and its fields", () => {
  const lines: string[] = [];
  const log = lineLog(
    (line) => lines.push(line),
    "info",
    () => 0,
  ).with({ cloud: "messina" });
  log.log("debug", "quiet");
  log.log("warn", "heard", { n: 1 });
  assert.deepEqual(lines, [
    '{"time":"1970-01-01T00:00:00.000Z","level":"warn","message":"heard","cloud":"messina","n":1}\n',
  ]);
});

test("sleep ends with the signal's reason", async () => {
  const abort = new AbortController();
  const slept = world.clock.sleep(60_000, abort.signal);
  abort.abort(new Error("enough"));
  await assert.rejects(slept, /enough/);
});
