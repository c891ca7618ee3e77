import { join } from "node:path";
import * as z from "zod";
import { TesseraError, type World } from "#core";
import { freePort } from "./ports.ts";
import type { StreamAddress } from "./stream.ts";

const STATE_BYTES_MAX = 64 * 1024;
const PASSWORD_BYTES = 24;

const stateSchema = z.object({
  password: z.string().min(16).max(200),
  c2sPort: z.number().int().min(1).max(65535),
  s2sPort: z.number().int().min(1).max(65535),
});

/** What an embedded server keeps over restarts; the file has mode 0600. */
export type ServerState = z.infer<typeof stateSchema>;

interface Listening {
  readonly directory: string;
  readonly c2s: StreamAddress;
  readonly s2s: StreamAddress;
}

/**
 * Loads the state or makes it. Configured ports win over kept ones; port 0 keeps the one chosen
 * before, or a new one when `newPorts`.
 *
 * @throws `xmpp.state-corrupt`, `xmpp.no-port`
 */
export async function loadState(
  world: World,
  options: Listening,
  newPorts: boolean,
): Promise<ServerState> {
  const path = join(options.directory, "server.json");
  const kept = await readState(world, path);
  const c2sPort = newPorts ? undefined : kept?.c2sPort;
  const s2sPort = newPorts ? undefined : kept?.s2sPort;
  const newC2s = (): Promise<number> => freePort(world, options.c2s.host, options.s2s.port);
  const c2s = options.c2s.port || (c2sPort ?? (await newC2s()));
  const state = {
    password: kept?.password ?? Buffer.from(world.random.bytes(PASSWORD_BYTES)).toString("hex"),
    c2sPort: c2s,
    s2sPort: options.s2s.port || (s2sPort ?? (await freePort(world, options.s2s.host, c2s))),
  };
  await world.files.writeFileAtomic(path, JSON.stringify(state), 0o600);
  return state;
}

async function readState(world: World, path: string): Promise<ServerState | undefined> {
  if ((await world.files.status(path)) === undefined) return undefined;
  const bytes = await world.files.readFile(path, STATE_BYTES_MAX);
  try {
    return stateSchema.parse(JSON.parse(Buffer.from(bytes).toString("utf8")));
  } catch (cause) {
    throw new TesseraError("corrupt", "xmpp.state-corrupt", `${path} cannot be read`, {
      subject: path,
      remedy: "remove the file; the server then chooses its ports and password anew",
      cause,
    });
  }
}
