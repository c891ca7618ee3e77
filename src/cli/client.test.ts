import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { agentSocket } from "./agent-socket.ts";
import { connectAgent } from "./client.ts";
import { run, runWith, withAgent, withDirectory } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

/** Something that listens on a socket, answers each connection with these bytes, and hangs up. */
async function withBytes(bytes: string, use: (socketPath: string) => Promise<void>): Promise<void> {
  await withDirectory(async (directory) => {
    const socketPath = join(directory, "agent.sock");
    const server = createServer((socket: Socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => socket.end(bytes));
    });
    server.listen(socketPath);
    await once(server, "listening");
    try {
      await use(socketPath);
    } finally {
      server.close();
      await once(server, "close");
    }
  });
}

function http(status: string, type: string, body: string): string {
  const head = `HTTP/1.1 ${status}\r\ncontent-type: ${type}\r\nconnection: close\r\n`;
  return `${head}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

test("an agent that does not run is told, with what to do", async () => {
  await withDirectory(async (directory) => {
    const socketPath = join(directory, "agent.sock");
    const { code, err } = await run(["machine", "ls", "--agent", directory]);
    assert.equal(code, 5);
    assert.equal(
      err,
      `error cli.agent-unreachable: the agent cannot be reached: there is no such socket
  about: ${socketPath}
  what to do: start it by \`tessera agent run DIR\`, or name its socket by --agent or TESSERA_AGENT
`,
    );
  });
});

test("a file that is no socket, or one without a listener, is told", async () => {
  await withDirectory(async (directory) => {
    const path = join(directory, "agent.sock");
    await writeFile(path, "");
    await assert.rejects(connectAgent(path).call("machine.list", {}), {
      code: "cli.agent-unreachable",
    });
    await chmod(path, 0);
  });
});

const BROKEN: readonly (readonly [string, string, string])[] = [
  ["not HTTP", "hello\r\n\r\n", "cli.agent-hung-up"],
  ["nothing", "", "cli.agent-hung-up"],
  ["not JSON", http("200 OK", "application/json", "<html>"), "api.answer-invalid"],
  ["another shape", http("200 OK", "application/json", '{"machines":7}'), "api.answer-invalid"],
  ["an error of another shape", http("500 X", "text/plain", "oops"), "api.answer-invalid"],
  [
    "a cut answer",
    http("200 OK", "application/json", "x".repeat(100)).slice(0, -50),
    "cli.agent-hung-up",
  ],
];

for (const [what, bytes, code] of BROKEN) {
  test(`an agent that answers with ${what}`, async () => {
    await withBytes(bytes, async (socketPath) => {
      await assert.rejects(connectAgent(socketPath).call("machine.list", {}), { code });
    });
  });
}

test("a stream that is cut, empty or garbled", async () => {
  const progress = `{"progress":${JSON.stringify({ migration: "m", state: "s", streams: [] })}}\n`;
  const status = JSON.stringify(sample.STATUS);
  const cases: [string, string][] = [
    [progress, "cli.agent-hung-up"],
    ["", "cli.agent-hung-up"],
    [`${progress}garbage\n`, "api.answer-invalid"],
    [`${progress}{"result":{}}\n`, "api.answer-invalid"],
    [`${progress}{"result":${status}}`, "cli.agent-hung-up"],
    [`${progress}{"error":{"code":"a.b","fault":"peer","message":"m"}}\n`, "a.b"],
  ];
  for (const [body, code] of cases) {
    const bytes = http("200 OK", "application/x-ndjson", body);
    await withBytes(bytes, async (socketPath) => {
      const seen: string[] = [];
      const call = connectAgent(socketPath).call(
        "migration.watch",
        { migration: "m" },
        { progress: ({ state }) => seen.push(state) },
      );
      await assert.rejects(call, { code }, body);
      assert.deepEqual(seen, body === "" ? [] : ["s"]);
    });
  }
});

test("lines that arrive in pieces are put together, across characters too", async () => {
  await withDirectory(async (directory) => {
    const socketPath = join(directory, "agent.sock");
    const note = "größer";
    const event = JSON.stringify({ progress: { migration: "m", state: "s", streams: [], note } });
    const result = JSON.stringify({ result: sample.STATUS });
    const bytes = Buffer.from(http("200 OK", "application/x-ndjson", `${event}\n${result}\n`));
    const server = createServer((socket) => {
      socket.once("data", () => {
        for (const byte of bytes) socket.write(Buffer.of(byte));
        socket.end();
      });
    });
    server.listen(socketPath);
    await once(server, "listening");
    try {
      const notes: (string | undefined)[] = [];
      const options = { progress: (one: { note?: string }) => notes.push(one.note) };
      const input = { migration: "m" };
      const status = await connectAgent(socketPath).call("migration.watch", input, options);
      assert.deepEqual(notes, [note]);
      assert.equal(status.migration, sample.MIGRATION);
    } finally {
      server.close();
      await once(server, "close");
    }
  });
});

test("a refused upload still gets its answer", async () => {
  await withAgent({}, async ({ socketPath }) => {
    const text = "x".repeat(17 * 2 ** 20);
    const call = connectAgent(socketPath).call("appliance.add", { fileName: "a", text });
    await assert.rejects(call, { code: "api.body-too-large" });
  });
});

test("an interrupted call rejects with the reason", async () => {
  const interruption = new AbortController();
  const reason = new Error("enough");
  const entered = Promise.withResolvers<void>();
  const handlers = {
    "machine.list": () => {
      entered.resolve();
      return new Promise<never>(() => undefined);
    },
  };
  await withAgent(handlers, async ({ socketPath }) => {
    const { signal } = interruption;
    const call = connectAgent(socketPath).call("machine.list", {}, { signal });
    const rejected = assert.rejects(call, reason);
    await entered.promise;
    interruption.abort(reason);
    await rejected;
  });
});

test("the agent is found by the flag, the environment, the state directory, in this order", () => {
  const place = { directory: "/d", home: "/home/u", isRoot: false };
  const environment = { TESSERA_AGENT: "env.sock" };
  assert.equal(agentSocket("flag.sock", { ...place, environment }), "/d/flag.sock");
  assert.equal(agentSocket(undefined, { ...place, environment }), "/d/env.sock");
  const none = { ...place, environment: { TESSERA_AGENT: "" } };
  assert.equal(agentSocket(undefined, none), "/home/u/.local/state/tessera/agent.sock");
  const xdg = { ...place, environment: { XDG_STATE_HOME: "/x" } };
  assert.equal(agentSocket(undefined, xdg), "/x/tessera/agent.sock");
  const root = { ...none, isRoot: true };
  assert.equal(agentSocket(undefined, root), "/var/lib/tessera/agent.sock");
});

test("--agent takes the state directory too", async () => {
  const handlers = { "machine.list": () => Promise.resolve({ machines: [] }) };
  await withAgent(handlers, async (agent) => {
    const argv = ["machine", "ls", "--agent", agent.directory];
    const { code, out } = await runWith(agent, argv, { environment: {} });
    assert.deepEqual([code, out], [0, "NAME  STATE  APPLIANCE  PORTS  UUID\n"]);
  });
});
