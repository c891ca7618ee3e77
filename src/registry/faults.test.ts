/** Registries that lie, loop, redirect and lose things. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test, type TestContext } from "node:test";
import { hasCode, hexOf, type Component, type Digest } from "#core";
import { MANIFEST_TYPE, type ComponentStore } from "#repository";
import type { RegistryAccess } from "./contract.ts";
import { pullComponent } from "./pull.ts";
import { pushComponent } from "./push.ts";
import { parseReference } from "./reference.ts";
import {
  addProgram,
  blobsOf,
  CREDENTIALS,
  hastyWorld,
  repositoryIn,
  startServer,
  type Seen,
} from "./registry.suite.ts";

const AUTHORIZATION = `Basic ${Buffer.from(`ci:${CREDENTIALS.password}`).toString("base64")}`;

/** What a registry holds, and the plain way to answer for it. */
interface Holding {
  readonly component: Component;
  readonly blobs: ReadonlyMap<Digest, Uint8Array>;
}

let made: Promise<Holding> | undefined;

/** The same for all tests; its bytes are in memory. */
function holdingOf(t: TestContext): Promise<Holding> {
  return (made ??= makeHolding(t));
}

async function makeHolding(t: TestContext): Promise<Holding> {
  const store = await repositoryIn(t);
  const component = await addProgram(store, "prog", 256 * 1024);
  return { component, blobs: await blobsOf(store, component) };
}

function digestIn(url: string): Digest | undefined {
  return /sha256:[0-9a-f]{64}$/.exec(url)?.[0] as Digest | undefined;
}

/** Answers as a registry should, but for what `twist` does. */
function honestly({ component, blobs }: Holding, { url, headers }: Seen, response: ServerResponse) {
  const isManifest = url.includes("/manifests/");
  const digest = isManifest ? component.manifest.digest : digestIn(url);
  const content = digest === undefined ? undefined : blobs.get(digest);
  if (content === undefined) return void response.writeHead(404).end();
  const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  const type = isManifest ? MANIFEST_TYPE : "application/octet-stream";
  response.writeHead(from === 0 ? 200 : 206, {
    "content-type": type,
    "content-length": content.length - from,
    ...(from === 0
      ? {}
      : { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` }),
  });
  response.end(content.subarray(from));
}

function pull(store: ComponentStore, host: string, access: RegistryAccess = {}) {
  const target = parseReference(`oci://${host}/prog:1`);
  return pullComponent(hastyWorld(), store, { target, access });
}

const coded = (code: string) => (error: unknown) => {
  assert.ok(hasCode(error, code), String(error));
  return true;
};

async function refuses(
  t: TestContext,
  code: string,
  twist: (holding: Holding, request: Seen, response: ServerResponse) => boolean,
): Promise<void> {
  const holding = await holdingOf(t);
  const { host } = await startServer(t, (request, response) => {
    if (!twist(holding, request, response)) honestly(holding, request, response);
  });
  const store = await repositoryIn(t);
  await assert.rejects(pull(store, host), coded(code));
  assert.deepEqual(await store.list(), []);
  assert.equal(await store.hasBlob(holding.component.id), false);
}

const isImage = ({ component }: Holding, { url }: Seen) => url.endsWith(hexOf(component.id));

test("an honest registry without TLS on this host is taken", async (t) => {
  const holding = await holdingOf(t);
  const { host } = await startServer(t, (request, answer) => honestly(holding, request, answer));
  const { component } = await pull(await repositoryIn(t), host);
  assert.deepEqual(component, holding.component);
});

test("a registry that lies about a blob's bytes", (t) =>
  refuses(t, "repository.digest-mismatch", (holding, request, response) => {
    if (!isImage(holding, request)) return false;
    response.end(new Uint8Array(holding.component.sizeBytes));
    return true;
  }));

test("a registry that lies about a manifest", (t) =>
  refuses(t, "registry.manifest-corrupt", (holding, { url }, response) => {
    if (!url.includes("/manifests/")) return false;
    const other = `sha256:${"0".repeat(64)}`;
    response.writeHead(200, { "content-type": MANIFEST_TYPE, "docker-content-digest": other });
    response.end(holding.blobs.get(holding.component.manifest.digest));
    return true;
  }));

test("a registry whose manifest is endless, or of another kind, or no manifest", async (t) => {
  const answers: [string, (response: ServerResponse) => void][] = [
    [
      "registry.protocol",
      (response) => {
        response.writeHead(200, { "content-type": MANIFEST_TYPE });
        response.end(Buffer.alloc(2 ** 20 + 1, 32));
      },
    ],
    [
      "registry.protocol",
      (response) => void response.writeHead(200, { "content-type": "text/html" }).end("{}"),
    ],
    [
      "repository.manifest-invalid",
      (response) => void response.writeHead(200, { "content-type": MANIFEST_TYPE }).end("{}"),
    ],
    ["registry.protocol", (response) => void response.writeHead(204).end()],
  ];
  for (const [code, answer] of answers) {
    await refuses(t, code, (_, { url }, response) => {
      if (!url.includes("/manifests/")) return false;
      answer(response);
      return true;
    });
  }
});

test("a registry that lies about sizes", async (t) => {
  const lies: ((bytes: Uint8Array, response: ServerResponse) => void)[] = [
    (bytes, response) => void response.end(Buffer.concat([bytes, Buffer.alloc(1)])),
    (bytes, response) => {
      response.writeHead(200, { "content-length": bytes.length - 1 });
      response.end(bytes.subarray(1));
    },
    (bytes, response) => {
      response.writeHead(200, { "transfer-encoding": "chunked" });
      response.end(Buffer.concat([bytes, bytes]));
    },
    (bytes, response) => void response.writeHead(200, { "content-encoding": "gzip" }).end(bytes),
    (_, response) => void response.writeHead(404).end(),
  ];
  for (const lie of lies) {
    await refuses(t, "registry.protocol", (holding, request, response) => {
      if (!isImage(holding, request)) return false;
      lie(holding.blobs.get(holding.component.id) ?? Buffer.alloc(0), response);
      return true;
    });
  }
});

const ranges = (total: number) => [
  `bytes 0-${total - 1}/${total}`,
  `bytes ${total / 2}-${total}/${total + 1}`,
  `bytes ${total / 2}-${total - 1}/${total + 1}`,
  `bytes ${total / 2}-1/${total}`,
  "all of it",
];

test("a registry that lies about ranges", async (t) => {
  for (let index = 0; index < 5; index += 1) {
    let asked = 0;
    await refuses(t, "registry.protocol", (holding, request, response) => {
      if (!isImage(holding, request)) return false;
      const bytes = holding.blobs.get(holding.component.id) ?? Buffer.alloc(0);
      asked += 1;
      if (asked === 1) {
        response.writeHead(200, { "content-length": bytes.length });
        response.write(bytes.subarray(0, bytes.length / 2), () => response.destroy());
      } else {
        const range = ranges(bytes.length)[index] ?? "";
        response.writeHead(206, { "content-range": range }).end(bytes.subarray(bytes.length / 2));
      }
      return true;
    });
  }
});

test("a range that was not asked for is refused", (t) =>
  refuses(t, "registry.protocol", (holding, request, response) => {
    if (!isImage(holding, request)) return false;
    const bytes = holding.blobs.get(holding.component.id) ?? Buffer.alloc(0);
    const range = `bytes 0-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(206, { "content-range": range }).end(bytes);
    return true;
  }));

test("a registry without ranges begins anew, and what is there is passed over", async (t) => {
  const holding = await holdingOf(t);
  let cuts = 0;
  const { host, seen } = await startServer(t, (request, response) => {
    const bytes = holding.blobs.get(digestIn(request.url) ?? "sha256:") ?? Buffer.alloc(0);
    if (!isImage(holding, request)) return honestly(holding, request, response);
    response.writeHead(200, { "content-length": bytes.length });
    if ((cuts += 1) > 2) return void response.end(bytes);
    response.write(bytes.subarray(0, (bytes.length / 4) * cuts), () => response.destroy());
  });
  const { component } = await pull(await repositoryIn(t), host);
  assert.deepEqual(component, holding.component);
  assert.ok(seen.some(({ headers }) => headers.range !== undefined));
});

test("one that sends nothing, or fails, is given up after some attempts", async (t) => {
  const { host, seen } = await startServer(t, (_, response) => void response.writeHead(503).end());
  await assert.rejects(pull(await repositoryIn(t), host), coded("registry.unreachable"));
  assert.equal(seen.length, 5);
  const dead = await startServer(t, (_, response) => void response.destroy());
  await assert.rejects(pull(await repositoryIn(t), dead.host), coded("registry.unreachable"));
});

test("one that asks for a password again and again is not asked forever", async (t) => {
  const challenges = ['Basic realm="x"', 'Bearer realm="REALM",service="s",scope="other"'];
  for (const challenge of challenges) {
    let host = "";
    const server = await startServer(t, ({ url }, response) => {
      if (url.startsWith("/token")) return void response.end(`{"token":"useless"}`);
      const header = challenge.replace("REALM", `http://${host}/token`);
      response.writeHead(401, { "www-authenticate": header }).end();
    });
    ({ host } = server);
    const store = await repositoryIn(t);
    const access = { credentials: CREDENTIALS };
    await assert.rejects(pull(store, host, access), coded("registry.access-refused"));
    assert.ok(server.seen.length <= 5, String(server.seen.length));
  }
});

test("a token is fetched with the password, used, and renewed once it is old", async (t) => {
  const holding = await holdingOf(t);
  let host = "";
  let tokens = 0;
  const server = await startServer(t, (request, response) => {
    const { url, headers } = request;
    if (url.startsWith("/token?")) {
      assert.equal(headers.authorization, AUTHORIZATION);
      assert.equal(new URL(url, "http://x").searchParams.get("scope"), "repository:prog:pull");
      return void response.end(JSON.stringify({ access_token: `t${(tokens += 1)}` }));
    }
    // The first token is good for the manifest alone.
    const good = url.includes("/manifests/") ? "Bearer t1" : "Bearer t2";
    if (headers.authorization === good) return honestly(holding, request, response);
    const challenge = `Bearer realm="http://${host}/token",service="registry"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
  });
  ({ host } = server);
  const access = { credentials: CREDENTIALS };
  const { component } = await pull(await repositoryIn(t), host, access);
  assert.deepEqual(component, holding.component);
  assert.equal(tokens, 2);
});

test("nobody else is given the password: not who is redirected to, not another token server", async (t) => {
  const holding = await holdingOf(t);
  const other = await startServer(t, (request, response) => honestly(holding, request, response));
  const registry = await startServer(t, (request, response) => {
    if (request.headers.authorization !== AUTHORIZATION) {
      return void response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
    }
    if (!request.url.includes("/blobs/")) return honestly(holding, request, response);
    response.writeHead(307, { location: `http://${other.host}/storage/${request.url}` }).end();
  });
  const access = { credentials: CREDENTIALS };
  const store = await repositoryIn(t);
  // Without TLS nobody but the registry itself is spoken to.
  await assert.rejects(pull(store, registry.host, access), coded("registry.protocol"));
  assert.deepEqual(other.seen, []);

  const sends = await startServer(t, (_, response) => {
    const challenge = `Bearer realm="http://${other.host}/token",service="s"`;
    response.writeHead(401, { "www-authenticate": challenge }).end();
  });
  await assert.rejects(pull(store, sends.host, access), coded("registry.protocol"));
  assert.deepEqual(other.seen, []);
});

test("redirects within the registry are followed, but not in circles", async (t) => {
  const holding = await holdingOf(t);
  const { host } = await startServer(t, (request, response) => {
    const to = request.url.includes("/blobs/") ? "elsewhere" : undefined;
    if (to === undefined) return honestly(holding, request, response);
    const path = `/elsewhere/${digestIn(request.url)}`;
    response.writeHead(302, { location: path }).end();
  });
  const { component } = await pull(await repositoryIn(t), host);
  assert.deepEqual(component, holding.component);
  const circle = await startServer(t, ({ url }, response) => {
    response.writeHead(302, { location: url }).end();
  });
  const lost = pull(await repositoryIn(t), circle.host);
  await assert.rejects(lost, coded("registry.protocol"));
  assert.equal(circle.seen.length, 6);
});

test("one that says to hold more than it was sent, or keeps another digest, is refused", async (t) => {
  const store = await repositoryIn(t);
  const component = await addProgram(store, "prog", 1000);
  const pushTo = (host: string) =>
    pushComponent(hastyWorld(), store, component, {
      target: parseReference(`oci://${host}/prog:1`),
      access: {},
    });
  const answers: Readonly<Record<string, (response: ServerResponse) => void>> = {
    HEAD: (response) => void response.writeHead(404).end(),
    POST: (response) => void response.writeHead(202, { location: "/up" }).end(),
    PATCH: (response) => void response.writeHead(202, { location: "/up", range: "0-99999" }).end(),
  };
  const greedy = await startServer(t, ({ method }, response) => answers[method]?.(response));
  await assert.rejects(pushTo(greedy.host), coded("registry.protocol"));
  const other = { "docker-content-digest": `sha256:${"1".repeat(64)}` };
  const wrong = await startServer(t, ({ method, headers }, response) => {
    const [, last] = /-(\d+)$/.exec(headers["content-range"] ?? "") ?? [];
    if (method === "PATCH") response.writeHead(202, { location: "/up", range: `0-${last}` }).end();
    else if (method === "PUT") response.writeHead(201, other).end();
    else answers[method]?.(response);
  });
  await assert.rejects(pushTo(wrong.host), coded("registry.protocol"));
  const away = await startServer(t, ({ method }, response) => {
    if (method === "POST") response.writeHead(202, { location: "http://192.0.2.1/up" }).end();
    else answers[method]?.(response);
  });
  await assert.rejects(pushTo(away.host), coded("registry.protocol"));
});

test("an upload goes on in the middle of a chunk where the registry keeps what has come", async (t) => {
  const store = await repositoryIn(t);
  const component = await addProgram(store, "prog", 9 * 2 ** 20);
  const begun: string[] = [];
  const { host, seen } = await startServer(t, ({ method, headers }, response) => {
    const range = headers["content-range"] ?? "";
    const [, first = "", last = ""] = /^(\d+)-(\d+)$/.exec(range) ?? [];
    if (method === "HEAD") response.writeHead(404).end();
    else if (method === "POST") response.writeHead(202, { location: "/up" }).end();
    else if (method === "GET") response.writeHead(204, { range: "0-4999999" }).end();
    else if (method === "PUT") response.writeHead(201).end();
    else if (first === "4194304") response.destroy();
    else {
      begun.push(first);
      response.writeHead(202, { location: "/up", range: `0-${last}` }).end();
    }
  });
  const sent = await pushComponent(hastyWorld(), store, component, {
    target: parseReference(`oci://${host}/prog:1`),
    access: {},
  });
  assert.deepEqual(begun, ["0", "0", "5000000", "9194304", "0"].slice(0, begun.length));
  assert.ok(begun.includes("5000000"));
  assert.ok(sent.movedBytes >= component.sizeBytes);
  assert.equal(seen.filter(({ method }) => method === "POST").length, 3);
});
