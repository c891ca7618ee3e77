/** The demo's machines: what runs in them, and how records are written to and read from them. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface DemoMachine {
  readonly name: string;
  readonly appliance: string;
  readonly port: string;
  readonly files: readonly { readonly path: string; readonly text: string }[];
  /** Resolves when the machine has acknowledged the record. */
  write(port: number, key: string, value: string): Promise<void>;
  read(port: number, key: string): Promise<string>;
  /** What proves that the service answers. */
  greet(port: number): Promise<string>;
}

const SITE = `server {
  listen 80 default_server;
  root /srv/www;
  location /records/ {
    root /srv;
    dav_methods PUT;
    client_body_temp_path /srv/records/.incoming;
  }
}
`;

export const PAGE = "<h1>This page travels with its machine.</h1>\n";

const ANSWER_MS = 10_000;

async function http(port: number, path: string, init: RequestInit = {}): Promise<string> {
  const signal = AbortSignal.timeout(ANSWER_MS);
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { ...init, signal });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return await response.text();
}

export const WEB: DemoMachine = {
  name: "web",
  appliance: "web",
  port: "http",
  files: [
    { path: "/etc/nginx/sites-enabled/default", text: SITE },
    { path: "/srv/www/index.html", text: PAGE },
    {
      path: "/etc/tmpfiles.d/records.conf",
      text: "d /srv/records 0755 www-data www-data -\nd /srv/records/.incoming 0700 www-data www-data -\n",
    },
  ],
  write: async (port, key, value) => {
    await http(port, `/records/${key}`, { method: "PUT", body: value });
  },
  read: async (port, key) => await http(port, `/records/${key}`),
  greet: async (port) => (await http(port, "/")).trim(),
};

/** One command of the Redis protocol (RESP2) and its answer, for short values. */
async function redis(port: number, words: readonly string[]): Promise<string> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error("redis does not answer")));
  const parts = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  socket.write(`*${words.length}\r\n${parts.join("")}`);
  try {
    let answer = "";
    for await (const chunk of socket) {
      answer += (chunk as Buffer).toString("utf8");
      if (isWhole(answer)) break;
    }
    if (!isWhole(answer) || answer.startsWith("-"))
      throw new Error(`redis said "${answer.trim()}"`);
    return answer.startsWith("$") ? (answer.split("\r\n")[1] ?? "") : answer.slice(1).trim();
  } finally {
    socket.destroy();
  }
}

function isWhole(answer: string): boolean {
  const lines = answer.split("\r\n").length - 1;
  return answer.startsWith("$") && !answer.startsWith("$-1") ? lines >= 2 : lines >= 1;
}

export const DATABASE: DemoMachine = {
  name: "database",
  appliance: "database",
  port: "redis",
  files: [
    {
      path: "/etc/systemd/system/redis-server.service.d/z-durable.conf",
      text: "[Service]\nExecStart=\nExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --bind * -::* --protected-mode no --appendonly yes --appendfsync always\n",
    },
  ],
  write: async (port, key, value) => {
    const answer = await redis(port, ["SET", key, value]);
    if (answer !== "OK") throw new Error(`redis answered ${answer}`);
  },
  read: async (port, key) => await redis(port, ["GET", key]),
  greet: async (port) => await redis(port, ["PING"]),
};

/** Writes records until told to stop; a record counts once the machine has acknowledged it. */
export class Writer {
  readonly acknowledged = new Map<string, string>();
  readonly #machine: DemoMachine;
  readonly #port: number;
  #stopped = false;
  readonly #done: Promise<void>;

  constructor(machine: DemoMachine, port: number, first: number) {
    this.#machine = machine;
    this.#port = port;
    this.#done = this.#run(first);
  }

  async #run(first: number): Promise<void> {
    for (let number = first; !this.#stopped; number += 1) {
      const [key, value] = [`record-${number}`, `value ${number} of ${this.#machine.name}`];
      try {
        await this.#machine.write(this.#port, key, value);
        this.acknowledged.set(key, value);
        await sleep(20);
      } catch {
        // The machine has stopped, or does not answer yet: what was not acknowledged does not count.
        await sleep(200);
      }
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }
}
