import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rename, rm, stat } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Handlers } from "#api";
import { TesseraError } from "#core";
import type { Log } from "#core";
import { lineLog, realWorld } from "#system";
import { serveApi, type ApiServer } from "./http.ts";

interface Served {
  readonly directory: string;
  readonly socketPath: string;
  readonly server: ApiServer;
}

async function withServer(
  handlers: Partial<Handlers>,
  use: (served: Served) => Promise<void>,
  log?: Log,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-http-"));
  const socketPath = join(directory, "agent.sock");
  const world = realWorld(log);
  try {
    const server = await serveApi({ handlers: handlers as Handlers, socketPath, world });
    try {
      await use({ directory, socketPath, server });
    } finally {
      await server.close();
    }
  } finally {
    await rm(directory, { recursive: true });
  }
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly text: string;
}

interface Asked {
  readonly method?: string;
  readonly body?: string | Buffer;
  /** Send in pieces, without telling the length. */
  readonly chunked?: boolean;
}

async function ask(socketPath: string, path: string, asked: Asked = {}): Promise<Answer> {
  const { method = "GET", body, chunked = false } = asked;
  const length = Buffer.byteLength(body ?? "");
  const headers = body === undefined || chunked ? {} : { "content-length": length };
  const call = request({ socketPath, path, method, headers, agent: false });
  if (chunked)
    for (let at = 0; at < length; at += 2 ** 20) call.write(body?.slice(at, at + 2 ** 20));
  call.end(chunked ? undefined : body);
  const [response] = (await once(call, "response")) as [IncomingMessage];
  const text = await textOf(response);
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

async function textOf(stream: AsyncIterable<unknown>): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

/** A socket as a process that was killed leaves it. */
async function leaveSocket(path: string): Promise<void> {
  const server = createServer();
  server.listen(`${path}.first`);
  await once(server, "listening");
  await rename(`${path}.first`, path);
  server.close();
  await once(server, "close");
  assert.ok((await stat(path)).isSocket());
}

function codeOf({ text }: Answer): string {
  return (JSON.parse(text) as { error: { code: string } }).error.code;
}

const removing: Partial<Handlers> = {
  "machine.remove": ({ machine }) => Promise.resolve({ removed: machine }),
  "plan.make": () => Promise.reject(new TesseraError("peer", "federation.timeout", "no answer")),
};

test("a request is handled and its answer checked", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const answer = await ask(socketPath, "/v1/machines/web%2F1", { method: "DELETE" });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"], "application/json");
    assert.deepEqual(JSON.parse(answer.text), { removed: "web/1" });
  });
});

test("the socket is its owner's alone, and goes when the server closes", async () => {
  await withServer(removing, async ({ socketPath, server }) => {
    const { mode } = await stat(socketPath);
    assert.equal(mode & 0o777, 0o600);
    await server.close();
    await assert.rejects(stat(socketPath), { code: "ENOENT" });
  });
});

test("bad requests get errors with codes and statuses", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const cases: [string, Asked, number, string][] = [
      ["/v1/nothing", {}, 404, "api.path-unknown"],
      ["/", {}, 404, "api.path-unknown"],
      ["/v1/machines/a", { method: "PUT" }, 405, "api.method-wrong"],
      ["/v1/plans", { method: "POST", body: "{garbage" }, 400, "api.body-invalid"],
      ["/v1/plans", { method: "POST", body: Buffer.from([0xff, 0xfe]) }, 400, "api.body-invalid"],
      ["/v1/plans", { method: "POST", body: "{}" }, 400, "api.input-invalid"],
      ["/v1/plans", { method: "POST", body: '{"machine":"a"}' }, 502, "federation.timeout"],
    ];
    for (const [path, asked, status, code] of cases) {
      const answer = await ask(socketPath, path, asked);
      assert.deepEqual([answer.status, codeOf(answer)], [status, code], path);
    }
  });
});

test("a wrong method is told which ones are right", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const answer = await ask(socketPath, "/v1/machines/a", { method: "PATCH" });
    assert.equal(answer.headers["allow"], "GET, DELETE");
  });
});

test("a body above the bound is refused, told beforehand or not, and the server goes on", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const body = Buffer.alloc(16 * 2 ** 20 + 1, 0x20);
    for (const chunked of [false, true]) {
      const answer = await ask(socketPath, "/v1/plans", { method: "POST", body, chunked });
      assert.deepEqual([answer.status, codeOf(answer)], [413, "api.body-too-large"]);
    }
    const path = "/v1/machines/a";
    assert.equal((await ask(socketPath, path, { method: "DELETE" })).status, 200);
  });
});

test("files of a machine may be larger than other bodies", async () => {
  const handlers: Partial<Handlers> = {
    "machine.create": ({ files = [] }) =>
      Promise.reject(
        new TesseraError("misuse", "test.length", `${files[0]?.contentBase64.length}`),
      ),
  };
  await withServer(handlers, async ({ socketPath }) => {
    const contentBase64 = "A".repeat(20 * 2 ** 20);
    const files = [{ path: "/x", contentBase64 }];
    const body = JSON.stringify({ name: "a", appliance: "b", files });
    const answer = await ask(socketPath, "/v1/machines", { method: "POST", body });
    assert.match(answer.text, /"message":"20971520"/);
  });
});

test("bytes that are not HTTP do no harm", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const socket = connect(socketPath);
    socket.end("\u0016\u0003\u0001 this is no HTTP\r\n\r\n");
    assert.match(await textOf(socket), /^HTTP\/1.1 400 /);
    assert.equal((await ask(socketPath, "/v1/machines/a", { method: "DELETE" })).status, 200);
  });
});

test("an error that nobody expected is a bug, logged with its stack, and the server goes on", async () => {
  const lines: string[] = [];
  const log = lineLog((line) => void lines.push(line));
  const handlers: Partial<Handlers> = {
    "machine.list": () => Promise.reject(new RangeError("off by one")),
    "agent.shutdown": () => Promise.resolve({}),
    "peer.remove": () => Promise.resolve({ removed: 7 as unknown as string }),
  };
  await withServer(
    handlers,
    async ({ socketPath }) => {
      const failed = await ask(socketPath, "/v1/machines");
      assert.deepEqual([failed.status, codeOf(failed)], [500, "core.unexpected"]);
      const wrong = await ask(socketPath, "/v1/peers/x", { method: "DELETE" });
      assert.deepEqual([wrong.status, codeOf(wrong)], [500, "api.output-invalid"]);
      const path = "/v1/agent/shutdown";
      assert.equal((await ask(socketPath, path, { method: "POST" })).status, 200);
    },
    log,
  );
  assert.match(lines.join("\n"), /off by one[^]*http\.test\.ts/);
});

const progress = { step: "download", detail: "nginx" } as const;
const buildBody = JSON.stringify({ recipe: { fileName: "x.yaml", text: "" }, bases: [] });

test("an operation streams its progress, then its error", async () => {
  const handlers: Partial<Handlers> = {
    "component.build": (_, context) => {
      context.progress(progress);
      context.progress({ ...progress, done: 1, total: 2 });
      return Promise.reject(new TesseraError("environment", "repository.no-space", "disk full"));
    },
  };
  await withServer(handlers, async ({ socketPath }) => {
    const asked = { method: "POST", body: buildBody };
    const answer = await ask(socketPath, "/v1/components/build", asked);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"], "application/x-ndjson");
    const lines = answer.text.trimEnd().split("\n");
    assert.deepEqual(
      lines.map((line) => JSON.parse(line) as unknown),
      [
        { progress },
        { progress: { ...progress, done: 1, total: 2 } },
        {
          error: {
            code: "repository.no-space",
            fault: "environment",
            message: "disk full",
          },
        },
      ],
    );
  });
});

test("an error before any progress has a status of its own", async () => {
  const handlers: Partial<Handlers> = {
    "component.build": () =>
      Promise.reject(new TesseraError("environment", "repository.no-space", "disk full")),
  };
  await withServer(handlers, async ({ socketPath }) => {
    const asked = { method: "POST", body: buildBody };
    const answer = await ask(socketPath, "/v1/components/build", asked);
    assert.deepEqual([answer.status, codeOf(answer)], [507, "repository.no-space"]);
  });
});

test("a client that hangs up aborts its handler, and the server goes on", async () => {
  const entered = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<unknown>();
  const handlers: Partial<Handlers> = {
    ...removing,
    "component.build": (_, { signal }) => {
      entered.resolve();
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted.resolve(signal.reason);
          reject(signal.reason as Error);
        });
      });
    },
  };
  await withServer(handlers, async ({ socketPath }) => {
    const path = "/v1/components/build";
    const call = request({ socketPath, path, method: "POST", agent: false });
    const failed = once(call, "error");
    call.end(buildBody);
    await entered.promise;
    call.destroy(new Error("gone"));
    await failed;
    assert.equal(((await aborted.promise) as TesseraError).code, "agent.client-gone");
    assert.equal((await ask(socketPath, "/v1/machines/a", { method: "DELETE" })).status, 200);
  });
});

test("a client that hangs up in the middle of its request does no harm", async () => {
  await withServer(removing, async ({ socketPath }) => {
    const socket = connect(socketPath);
    await once(socket, "connect");
    socket.write("POST /v1/plans HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    socket.destroy();
    assert.equal((await ask(socketPath, "/v1/machines/a", { method: "DELETE" })).status, 200);
  });
});

test("a client that reads nothing does not make the server hoard progress", async () => {
  const done = Promise.withResolvers<void>();
  const handlers: Partial<Handlers> = {
    "component.build": (_, context) => {
      const detail = "x".repeat(2 ** 16);
      for (let sent = 0; sent < 4000; sent += 1) context.progress({ step: "image", detail });
      done.resolve();
      return Promise.reject(new TesseraError("misuse", "test.end", "the last line"));
    },
  };
  await withServer(handlers, async ({ socketPath }) => {
    const path = "/v1/components/build";
    const call = request({ socketPath, path, method: "POST", agent: false });
    call.end(buildBody);
    const [response] = (await once(call, "response")) as [IncomingMessage];
    await done.promise;
    const text = await textOf(response);
    assert.ok(text.length < 4 * 2 ** 20, `${text.length} bytes were kept`);
    assert.match(text, /"the last line"\}\}\n$/);
  });
});

test("closing aborts what is in hand and lets it answer", async () => {
  const entered = Promise.withResolvers<void>();
  const handlers: Partial<Handlers> = {
    "migration.watch": (_, { signal }) => {
      entered.resolve();
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason as Error));
      });
    },
  };
  await withServer(handlers, async ({ socketPath, server }) => {
    const asking = ask(socketPath, "/v1/migrations/m/watch");
    await entered.promise;
    await server.close();
    const answer = await asking;
    assert.deepEqual([answer.status, codeOf(answer)], [503, "agent.stopping"]);
  });
});

test("closing cuts off a handler that does not end", async () => {
  const entered = Promise.withResolvers<void>();
  const handlers: Partial<Handlers> = {
    "machine.list": () => {
      entered.resolve();
      return new Promise(() => undefined);
    },
  };
  await withServer(handlers, async ({ socketPath, server }) => {
    const asking = assert.rejects(ask(socketPath, "/v1/machines"));
    await entered.promise;
    await server.close();
    await asking;
  });
});

test("a socket that answers is left alone; one that does not is replaced", async () => {
  await withServer(removing, async ({ socketPath, server }) => {
    const handlers = removing as Handlers;
    const again = serveApi({ handlers, socketPath, world: realWorld() });
    await assert.rejects(again, { code: "agent.already-running" });
    assert.equal((await ask(socketPath, "/v1/machines/a", { method: "DELETE" })).status, 200);
    await server.close();
    await leaveSocket(socketPath);
    const next = await serveApi({ handlers, socketPath, world: realWorld() });
    assert.equal((await ask(socketPath, "/v1/machines/a", { method: "DELETE" })).status, 200);
    await next.close();
  });
});

test("a path that no socket can have, or that cannot be made, is told", async () => {
  const handlers = removing as Handlers;
  const world = realWorld();
  const long = serveApi({ handlers, socketPath: `/tmp/${"x".repeat(120)}`, world });
  await assert.rejects(long, { code: "agent.socket-path-too-long" });
  const nowhere = serveApi({ handlers, socketPath: "/nonexistent/agent.sock", world });
  await assert.rejects(nowhere, { code: "agent.socket" });
});
