/** `bin/tessera` and the process, with a small agent program in the agent's place. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { withAgent, withDirectory } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

const ROOT = resolve(import.meta.dirname, "..", "..");
const TESSERA = join(ROOT, "bin", "tessera");

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function start(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const env = { ...process.env, TESSERA_AGENT: "/nonexistent", ...environment };
  return new Promise((resolve) => {
    execFile(program, args, { env, timeout: 60_000 }, (error, out, err) => {
      const code = typeof error?.code === "number" ? error.code : error === null ? 0 : -1;
      resolve({ code, out, err });
    });
  });
}

const AGENT = `
process.once("SIGTERM", () => process.exit(9));
console.log(JSON.stringify(process.argv.slice(2)));
if (process.argv[2] === "run") setInterval(() => undefined, 1000);
else process.exit(7);
`;

/** A copy of the command line whose agent is the small program above. */
async function install(directory: string): Promise<string> {
  for (const path of ["bin", "src", "package.json"]) {
    await cp(join(ROOT, path), join(directory, path), { recursive: true });
  }
  await writeFile(join(directory, "src", "agent", "main.ts"), AGENT);
  return join(directory, "bin", "tessera");
}

test("it runs through symbolic links, absolute and relative, with the pinned Node", async () => {
  await withDirectory(async (directory) => {
    await mkdir(join(directory, "a b"));
    await symlink(TESSERA, join(directory, "absolute"));
    await symlink("../absolute", join(directory, "a b", "relative"));
    const { code, out, err } = await start(join(directory, "a b", "relative"), ["--version"]);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, /^\d+\.\d+\.\d+\n$/);
  });
});

test("without its packages it says what to do", async () => {
  await withDirectory(async (directory) => {
    await cp(TESSERA, join(directory, "bin", "tessera"));
    const { code, out, err } = await start(join(directory, "bin", "tessera"), ["--help"]);
    assert.deepEqual([code, out], [5, ""]);
    assert.match(err, /^error cli\.not-installed: [^\n]*\n {2}what to do: run "npm ci" in /);
  });
});

test("it talks to an agent, and ends quietly when its reader has seen enough", async () => {
  const machines = Array.from({ length: 3000 }, () => sample.MACHINE);
  await withAgent({ "machine.list": () => Promise.resolve({ machines }) }, async (agent) => {
    const environment = { TESSERA_AGENT: agent.socketPath };
    const all = await start(TESSERA, ["machine", "ls"], environment);
    assert.deepEqual([all.code, all.err, all.out.split("\n").length], [0, "", 3002]);
    const script = '"$0" machine ls --json | head -n 1; exit "${PIPESTATUS[0]}"';
    const some = await start("bash", ["-c", script, TESSERA], environment);
    assert.deepEqual([some.code, some.out, some.err], [0, "{\n", ""]);
  });
});

test("the agent's program gets its arguments, and gives its exit code and its output", async () => {
  await withDirectory(async (directory) => {
    const tessera = await install(directory);
    await symlink(join(ROOT, "node_modules"), join(directory, "node_modules"));
    const { code, out } = await start(tessera, ["agent", "init", "d", "--name", "n", "--port=1"]);
    assert.deepEqual([code, out], [7, '["init","d","--name","n","--port=1"]\n']);
  });
});

test("a signal that stops the command line stops the agent", async () => {
  await withDirectory(async (directory) => {
    const tessera = await install(directory);
    await symlink(join(ROOT, "node_modules"), join(directory, "node_modules"));
    const running = spawn(tessera, ["agent", "run", "d"], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(running.stdout, "data");
      running.kill("SIGTERM");
      const [code] = (await once(running, "exit")) as [number | null];
      assert.equal(code, 9);
    } finally {
      running.kill("SIGKILL");
    }
  });
});

test("an interruption ends a waiting command with 130", async () => {
  const entered = Promise.withResolvers<void>();
  const handlers = {
    "machine.start": () => {
      entered.resolve();
      return new Promise<never>(() => undefined);
    },
  };
  await withAgent(handlers, async (agent) => {
    const env = { ...process.env, TESSERA_AGENT: agent.socketPath };
    const running = spawn(TESSERA, ["machine", "start", "x"], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    await entered.promise;
    const exited = once(running, "exit");
    running.kill("SIGINT");
    assert.deepEqual(await exited, [130, null]);
  });
});
