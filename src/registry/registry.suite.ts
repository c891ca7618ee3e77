/** What this room's tests share: real registries, one that lies, cuts, and small components. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TestContext } from "node:test";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Component, Digest, World } from "#core";
import { bufferSource, canonicalTree, writeErofs } from "#image";
import { openRepository, type ComponentStore } from "#repository";
import { realWorld } from "#system";

export const run = promisify(execFile);

/** The real world whose waits are short. */
export function hastyWorld(): World {
  const world = realWorld();
  return {
    ...world,
    clock: { ...world.clock, sleep: (_, signal) => world.clock.sleep(1, signal) },
  };
}

export async function directoryFor(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "tessera-registry-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export async function repositoryIn(t: TestContext): Promise<ComponentStore> {
  return await openRepository(hastyWorld(), await directoryFor(t));
}

/** Bytes that look random and are the same for the same seed. */
function noise(seed: string, sizeBytes: number): Uint8Array {
  return createHash("shake256", { outputLength: sizeBytes }).update(seed).digest();
}

/** Adds a program whose image has one file of so many bytes. */
export async function addProgram(
  store: ComponentStore,
  name: string,
  sizeBytes: number,
): Promise<Component> {
  const common = { mode: 0o644, uid: 0, gid: 0, mtime_s: 1, xattrs: new Map() };
  const content = bufferSource(noise(name, sizeBytes));
  const tree = canonicalTree([{ ...common, path: "file", type: "file", content }]);
  const pieces: Uint8Array[] = [];
  await writeErofs(tree, { write: async (bytes) => void pieces.push(bytes.slice()) });
  return await store.add({
    description: {
      kind: "program",
      name,
      version: "1.0~rc1+b2",
      architecture: "amd64",
      packages: [],
      provides: [],
      requires: [],
      instancePaths: [],
    },
    fragments: [{ path: "/etc/passwd", text: `${name}:x:100:100::/:/bin/false\n` }],
    image: bufferSource(Buffer.concat(pieces)),
  });
}

export interface RealRegistry {
  readonly host: string;
  readonly port: number;
  /** PEM of its own certificate, where it speaks TLS. */
  readonly ca?: string;
  /** A directory for skopeo's --cert-dir. */
  readonly directory: string;
}

const USER = "ci";
export const PASSWORD = "correct horse";

/** A docker-registry of our own that ends with the test. */
export async function startRegistry(
  t: TestContext,
  { secure = false }: { readonly secure?: boolean } = {},
): Promise<RealRegistry> {
  const directory = await directoryFor(t);
  const at = (name: string): string => join(directory, name);
  const lines = [
    "version: 0.1",
    "log: {level: info}",
    `storage: {filesystem: {rootdirectory: ${at("data")}}, delete: {enabled: true}}`,
    secure
      ? `http: {addr: "127.0.0.1:0", tls: {certificate: ${at("ca.crt")}, key: ${at("server-key.pem")}}}`
      : `http: {addr: "127.0.0.1:0"}`,
    ...(secure ? [`auth: {htpasswd: {realm: tessera, path: ${at("htpasswd")}}}`] : []),
  ];
  if (secure) await makeSecrets(directory);
  await writeFile(at("config.yml"), lines.join("\n"));
  const child = spawn("docker-registry", ["serve", at("config.yml")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  t.after(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) {
      await new Promise((resolve) => child.once("exit", resolve));
    }
  });
  const port = await new Promise<number>((resolve, reject) => {
    const said: string[] = [];
    createInterface({ input: child.stderr }).on("line", (line) => {
      said.push(line);
      const found = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    child.once("error", reject);
    child.once("exit", () => reject(new Error(said.join("\n"))));
  });
  const ca = secure ? await readFile(at("ca.crt"), "utf8") : undefined;
  return { host: `127.0.0.1:${port}`, port, directory, ...(ca === undefined ? {} : { ca }) };
}

async function makeSecrets(directory: string): Promise<void> {
  const at = (name: string): string => join(directory, name);
  const subject = "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1";
  const key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
  await run("openssl", [
    ...`req -x509 -days 2 ${key} ${subject}`.split(" "),
    "-keyout",
    at("server-key.pem"),
    "-out",
    at("ca.crt"),
  ]);
  await run("htpasswd", ["-Bbc", "-C", "4", at("htpasswd"), USER, PASSWORD]);
}

export const CREDENTIALS = { username: USER, password: PASSWORD };

/** When a relay cuts: a look at what is about to pass, and what has passed on this connection. */
export interface Cut {
  readonly from: "client" | "server";
  readonly times: number;
  readonly when: (passedBytes: number, bytes: Buffer) => boolean;
}

export function afterBytes(from: Cut["from"], bytes: number, times: number): Cut {
  return { from, times, when: (passedBytes, next) => passedBytes + next.length > bytes };
}

/** A relay that cuts connections, as often as told. */
export async function cuttingRelay(
  t: TestContext,
  port: number,
  cut: Cut,
): Promise<{ readonly host: string; readonly cuts: () => number }> {
  let cuts = 0;
  const sockets = new Set<Socket>();
  const server = createTcpServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    let passed = 0;
    const end = (): void => {
      client.destroy();
      upstream.destroy();
    };
    const pass = (from: Socket, to: Socket, counted: boolean): void => {
      from.on("data", (bytes: Buffer) => {
        if (counted && cuts < cut.times && cut.when(passed, bytes)) {
          cuts += 1;
          end();
          return;
        }
        if (counted) passed += bytes.length;
        to.write(bytes);
      });
      from.on("error", end);
      from.on("close", end);
      sockets.add(from);
    };
    pass(client, upstream, cut.from === "client");
    pass(upstream, client, cut.from === "server");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, cuts: () => cuts };
}

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
}

/** An HTTP server that answers as the test says. */
export async function startServer(
  t: TestContext,
  answer: (request: Seen, response: ServerResponse) => void,
): Promise<{ readonly host: string; readonly seen: readonly Seen[] }> {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    const one = { method: request.method ?? "", url: request.url ?? "", headers: request.headers };
    seen.push(one);
    request.resume();
    request.on("end", () => answer(one, response));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

/** Every blob of a component with its manifest, by digest. */
export async function blobsOf(
  store: ComponentStore,
  { manifest }: Component,
): Promise<Map<Digest, Uint8Array>> {
  const blobs = new Map<Digest, Uint8Array>();
  for (const { digest, sizeBytes } of [manifest, ...(await store.blobsOf(manifest))]) {
    const reader = await store.openBlob(digest);
    const content = new Uint8Array(sizeBytes);
    await reader.read(content, 0);
    await reader.close();
    blobs.set(digest, content);
  }
  return blobs;
}
