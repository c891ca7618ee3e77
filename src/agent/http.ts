/**
 * The agent's API over HTTP on a unix socket.
 *
 * A request is read within its bound, decoded, validated, handled; the answer is one JSON document,
 * or for an operation that streams JSON Lines from its first progress on. Until then its error has
 * a status of its own; after it the last line is the error. Who may connect is the file system's
 * to decide: the socket is the owner's alone.
 */
import { createServer, request } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import {
  BODY_BYTES_MAX,
  NDJSON,
  decodeInput,
  encodeProgress,
  encodeResult,
  findRoute,
  statusOf,
} from "#api";
import type { Context, Handlers, OperationName, Route } from "#api";
import { TesseraError, reportOf } from "#core";
import type { Log, World } from "#core";

export interface ApiServerOptions {
  readonly handlers: Handlers;
  /** At most 107 bytes (unix(7)). */
  readonly socketPath: string;
  readonly world: Pick<World, "clock" | "files" | "log">;
}

export interface ApiServer {
  /**
   * Takes no more requests, aborts the signals of those in hand, gives them a moment to answer,
   * then cuts them off and removes the socket. A handler must not wait for it.
   */
  close(): Promise<void>;
}

const SOCKET_PATH_BYTES_MAX = 107;
const CLOSE_TIMEOUT_MS = 2000;
/** A client that reads slower than this loses snapshots of progress, never the last line. */
const PROGRESS_WAITING_BYTES_MAX = 2 ** 20;

type AnyHandler = (input: unknown, context: Context<OperationName>) => Promise<unknown>;

/**
 * Serves until closed. A socket file that nothing answers on is taken for a leftover and replaced.
 *
 * @throws `agent.already-running`, `agent.socket-path-too-long` (misuse), `agent.socket` (environment)
 */
export async function serveApi(options: ApiServerOptions): Promise<ApiServer> {
  const { handlers, socketPath, world } = options;
  const inHand = new Set<AbortController>();
  const server = createServer((request, response) => {
    const controller = new AbortController();
    inHand.add(controller);
    // Connecting anew costs nothing here, and a server without idle connections closes at once.
    response.shouldKeepAlive = false;
    const done = answer(handlers, request, response, controller, world.log);
    void done.finally(() => inHand.delete(controller));
  });
  await claimSocket(server, socketPath, world);
  return { close: () => closeServer(server, inHand, world) };
}

async function claimSocket(
  server: Server,
  path: string,
  { files }: Pick<World, "files">,
): Promise<void> {
  if (new TextEncoder().encode(path).length > SOCKET_PATH_BYTES_MAX) {
    throw new TesseraError("misuse", "agent.socket-path-too-long", `${path} is too long`, {
      subject: path,
      remedy: `choose a state directory with a shorter path (${SOCKET_PATH_BYTES_MAX} bytes)`,
    });
  }
  if (await answers(path)) {
    throw new TesseraError("misuse", "agent.already-running", `an agent answers on ${path}`, {
      subject: path,
      remedy: "stop it by `tessera agent stop`, or use another state directory",
    });
  }
  if ((await files.status(path)) !== undefined) await files.remove(path);
  await listen(server, path);
}

/** Does anything accept connections there? */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = request({ socketPath: path, path: "/v1/agent", agent: false });
    probe.on("socket", (socket) => {
      socket.once("connect", () => {
        resolve(true);
        probe.destroy();
      });
    });
    probe.on("error", () => resolve(false));
    probe.on("close", () => resolve(false));
    probe.end();
  });
}

/** Binds with a mask so that the socket never exists with wider permissions than 0600. */
function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => {
      const message = `the agent's socket cannot be made: ${cause.message}`;
      reject(new TesseraError("environment", "agent.socket", message, { subject: path, cause }));
    });
    const mask = process.umask(0o177);
    try {
      server.listen(path, () => resolve());
    } finally {
      process.umask(mask);
    }
  });
}

async function closeServer(
  server: Server,
  inHand: ReadonlySet<AbortController>,
  { clock }: Pick<World, "clock">,
): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
  server.closeIdleConnections();
  const reason = new TesseraError("environment", "agent.stopping", "the agent is stopping");
  for (const controller of inHand) controller.abort(reason);
  const cancel = clock.after(CLOSE_TIMEOUT_MS, () => server.closeAllConnections());
  await closed;
  cancel();
}

async function answer(
  handlers: Handlers,
  request: IncomingMessage,
  response: ServerResponse,
  controller: AbortController,
  log: Log,
): Promise<void> {
  response.once("close", () => {
    if (response.writableFinished) return;
    controller.abort(new TesseraError("misuse", "agent.client-gone", "the client hung up"));
  });
  response.on("error", () => undefined);
  try {
    const route = findRoute(request.method ?? "", request.url ?? "");
    const body = await readBody(request, route.operation.bodyBytesMax ?? BODY_BYTES_MAX);
    const input = decodeInput(route, body);
    await handle(handlers, route, input, response, controller.signal);
  } catch (error) {
    answerError(error, request, response, log);
  }
}

/**
 * What is sent above the bound is read and dropped, since a client that is still sending would miss
 * its answer. The server's own time limit for a request ends one that never stops.
 */
async function readBody(request: IncomingMessage, bytesMax: number): Promise<string> {
  const body = await new Promise<Buffer>((resolve, reject) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    request.on("data", (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes <= bytesMax) chunks.push(chunk);
      else chunks.length = 0;
    });
    request.once("end", () => {
      if (sizeBytes > bytesMax) reject(tooLarge(bytesMax));
      else resolve(Buffer.concat(chunks));
    });
    request.once("error", reject);
  });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch (cause) {
    throw new TesseraError("misuse", "api.body-invalid", "the body is not UTF-8", { cause });
  }
}

function tooLarge(bytesMax: number): TesseraError {
  const message = `the body is larger than ${bytesMax} bytes`;
  return new TesseraError("misuse", "api.body-too-large", message);
}

async function handle(
  handlers: Handlers,
  { name, operation }: Route,
  input: unknown,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const progress = (event: unknown): void => {
    const line = encodeProgress(name, event);
    if (response.writableEnded || response.destroyed) return;
    if (!response.headersSent) response.writeHead(200, { "content-type": NDJSON });
    if (response.writableLength < PROGRESS_WAITING_BYTES_MAX) response.write(line);
  };
  const handler = handlers[name] as AnyHandler;
  const result = encodeResult(name, await handler(input, { signal, progress }));
  if (operation.progress === undefined) {
    answerJson(response, 200, result);
    return;
  }
  if (!response.headersSent) response.writeHead(200, { "content-type": NDJSON });
  response.end(`{"result":${result}}\n`);
}

function answerJson(response: ServerResponse, status: number, text: string): void {
  const body = Buffer.from(`${text}\n`);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": body.length,
  });
  response.end(body);
}

function answerError(
  error: unknown,
  request: IncomingMessage,
  response: ServerResponse,
  log: Log,
): void {
  const report = reportOf(error);
  if (report.fault === "bug") {
    const stack = error instanceof Error ? error.stack : undefined;
    log.log("error", "a request failed by a fault of ours", { url: request.url, ...report, stack });
  }
  if (response.destroyed) return;
  const text = JSON.stringify({ error: report });
  if (response.headersSent) {
    response.end(`${text}\n`);
    return;
  }
  if (report.code === "api.method-wrong") response.setHeader("allow", allowed(request));
  answerJson(response, statusOf(report), text);
}

/** The methods that the path takes (RFC 9110, section 15.5.6). */
function allowed({ url }: IncomingMessage): string {
  const methods = ["GET", "POST", "DELETE"].filter((method) => {
    try {
      return findRoute(method, url ?? "").name !== undefined;
    } catch {
      return false;
    }
  });
  return methods.join(", ");
}
