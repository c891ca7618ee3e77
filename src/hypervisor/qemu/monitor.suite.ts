/** A monitor that follows a script, for tests of what talks to QEMU. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

export const GREETING = '{"QMP": {"version": {}, "capabilities": ["oob"]}}\n';

export type Answer = (command: Record<string, unknown>, socket: Socket) => string | undefined;

/** It greets, and answers each line as `answer` says. */
export async function monitor(
  t: TestContext,
  greeting: string,
  answer: Answer,
  name = "s",
): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "qmp-"));
  const path = join(directory, name);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.write(greeting);
    let rest = "";
    socket.on("data", (chunk: Buffer) => {
      const lines = (rest + chunk.toString()).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const text = answer(JSON.parse(line) as Record<string, unknown>, socket);
        if (text !== undefined) socket.write(text);
      }
    });
  });
  server.listen(path);
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(directory, { recursive: true });
  });
  return path;
}

export const agree: Answer = ({ id }) => `{"return": {}, "id": ${String(id)}}\n`;
