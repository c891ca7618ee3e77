/**
 * The web server from which the machine of Figure 5 downloads, one beside each cloud: the same files
 * at both, as of a public site. `GET /file/NAME` (with ranges) gives bytes that cannot be compressed,
 * up to a limit, where it pauses until the limit is raised; `GET /done/NAME/SHA256` is the machine's
 * word that it has the whole file. Arguments: PORT, SIZE in bytes. Standard input takes lines `limit
 * BYTES`, standard output gives a line of JSON for each event.
 */
import { createCipheriv, createHash } from "node:crypto";
import { createServer, type ServerResponse } from "node:http";
import { once } from "node:events";
import { createInterface } from "node:readline";

const [port = 0, sizeBytes = 0] = process.argv.slice(2).map(Number);
const PIECE_BYTES = 2 ** 18;
let limitBytes = 0;
let raised = Promise.withResolvers<void>();

function tell(event: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

createInterface({ input: process.stdin }).on("line", (line) => {
  limitBytes = Number(line.split(" ")[1]);
  raised.resolve();
  raised = Promise.withResolvers();
});

/** Bytes of a file from an offset: AES-CTR's key stream, so any place can be computed. */
function stream(name: string, offset: number): (length: number) => Buffer {
  const key = createHash("sha256").update(name).digest();
  const counter = Buffer.alloc(16);
  counter.writeBigUInt64BE(BigInt(Math.floor(offset / 16)), 8);
  const cipher = createCipheriv("aes-256-ctr", key, counter);
  cipher.update(Buffer.alloc(offset % 16));
  return (length) => cipher.update(Buffer.alloc(length));
}

function digestOf(name: string): string {
  const next = stream(name, 0);
  const hash = createHash("sha256");
  for (let left = sizeBytes; left > 0; left -= PIECE_BYTES) {
    hash.update(next(Math.min(left, PIECE_BYTES)));
  }
  return hash.digest("hex");
}

async function send(name: string, offset: number, response: ServerResponse): Promise<void> {
  const headers = {
    "content-length": sizeBytes - offset,
    "content-range": `bytes ${offset}-${sizeBytes - 1}/${sizeBytes}`,
  };
  response.writeHead(offset === 0 ? 200 : 206, headers);
  const next = stream(name, offset);
  for (let at = offset; at < sizeBytes && !response.destroyed;) {
    const length = Math.min(PIECE_BYTES, sizeBytes - at, limitBytes - at);
    if (length <= 0) {
      tell({ event: "paused", name, bytes: at });
      await raised.promise;
      continue;
    }
    const room = response.write(next(length));
    at += length;
    if (!room && !response.destroyed) await drained(response);
  }
  response.end();
}

async function drained(response: ServerResponse): Promise<void> {
  const over = new AbortController();
  const { signal } = over;
  await Promise.race([once(response, "drain", { signal }), once(response, "close", { signal })]);
  over.abort();
}

createServer((request, response) => {
  const [, what, name = "", digest] = (request.url ?? "").split("/");
  if (what === "done") {
    tell({ event: "done", name, right: digest === digestOf(name) });
    response.end();
    return;
  }
  const offset = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
  tell({ event: "asked", name, offset });
  void send(name, offset, response);
}).listen(port, "127.0.0.1", () => tell({ event: "listening" }));
