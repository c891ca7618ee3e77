/** Calls the agent's API over its unix socket. */
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import {
  NDJSON,
  decodeErrorAnswer,
  decodeResult,
  decodeStreamLine,
  encodeRequest,
  type Input,
  type OperationName,
  type Output,
  type ProgressOf,
} from "#api";
import { TesseraError } from "#core";

export interface CallOptions<N extends OperationName> {
  readonly signal?: AbortSignal;
  readonly progress?: (event: ProgressOf<N>) => void;
}

export interface AgentClient {
  /**
   * @throws the agent's own error; `cli.agent-unreachable`, `cli.agent-hung-up` (environment);
   * `api.answer-invalid` (bug); the signal's reason
   */
  call<N extends OperationName>(
    name: N,
    input: Input<N>,
    options?: CallOptions<N>,
  ): Promise<Output<N>>;
}

/** Longest answer, or line of a stream, that is read. */
const ANSWER_BYTES_MAX = 64 * 2 ** 20;

export function connectAgent(socketPath: string): AgentClient {
  return {
    call: async (name, input, options = {}) => {
      const { response, cut } = await send(socketPath, name, input, options.signal);
      try {
        if ((response.statusCode ?? 500) >= 400) {
          throw decodeErrorAnswer(name, await readAll(response));
        }
        if (response.headers["content-type"] === NDJSON) {
          return await readStream(name, response, options.progress);
        }
        return decodeResult(name, await readAll(response));
      } catch (error) {
        throw options.signal?.aborted === true ? options.signal.reason : error;
      } finally {
        cut();
      }
    },
  };
}

interface Answered {
  readonly response: IncomingMessage;
  readonly cut: () => void;
}

function send<N extends OperationName>(
  socketPath: string,
  name: N,
  input: Input<N>,
  signal: AbortSignal | undefined,
): Promise<Answered> {
  const { method, target, body } = encodeRequest(name, input);
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const headers =
    bytes === undefined
      ? {}
      : { "content-type": "application/json", "content-length": bytes.length };
  return new Promise((resolve, reject) => {
    const options = { socketPath, path: target, method, headers, agent: false as const };
    const call: ClientRequest = request(signal === undefined ? options : { ...options, signal });
    call.once("response", (response) => resolve({ response, cut: () => call.destroy() }));
    call.on("error", (cause) => {
      reject(signal?.aborted === true ? signal.reason : unreachable(socketPath, cause));
    });
    call.end(bytes);
  });
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket",
  ECONNREFUSED: "nothing listens on it any more",
  EACCES: "you may not use this socket",
};

function unreachable(socketPath: string, cause: Error): TesseraError {
  const code = "code" in cause ? String(cause.code) : "";
  const reason = REASONS[code];
  if (reason === undefined) {
    return new TesseraError("environment", "cli.agent-hung-up", `no answer: ${cause.message}`, {
      subject: socketPath,
      remedy: "look into the agent's log",
      cause,
    });
  }
  const message = `the agent cannot be reached: ${reason}`;
  return new TesseraError("environment", "cli.agent-unreachable", message, {
    subject: socketPath,
    remedy: "start it by `tessera agent run DIR`, or name its socket by --agent or TESSERA_AGENT",
    cause,
  });
}

async function readAll(response: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of textOf(response)) {
    text += piece;
    if (text.length > ANSWER_BYTES_MAX) throw tooLong();
  }
  return text;
}

async function readStream<N extends OperationName>(
  name: N,
  response: IncomingMessage,
  progress: ((event: ProgressOf<N>) => void) | undefined,
): Promise<Output<N>> {
  for await (const text of linesOf(response)) {
    const line = decodeStreamLine(name, text);
    if ("result" in line) return line.result;
    progress?.(line.progress);
  }
  throw hungUp("the agent ended its answer before the result");
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = "";
  for await (const piece of textOf(response)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > ANSWER_BYTES_MAX) throw tooLong();
    yield* lines;
  }
}

async function* textOf(response: IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  try {
    yield* response as AsyncIterable<string>;
  } catch (cause) {
    throw hungUp("the agent hung up in the middle of its answer", cause);
  }
}

function tooLong(): TesseraError {
  return new TesseraError("bug", "api.answer-invalid", "the agent's answer is too long");
}

function hungUp(message: string, cause?: unknown): TesseraError {
  return new TesseraError("environment", "cli.agent-hung-up", message, {
    remedy: "look into the agent's log; it takes up what it was doing when it starts again",
    cause,
  });
}
