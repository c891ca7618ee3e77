import { createServer } from "node:net";
import { TesseraError, type World } from "#core";

const FIRST = 20_000;
const COUNT = 12_000;
const ATTEMPTS = 64;

/**
 * A free TCP port below the range from which systems take ports for outgoing connections, so that
 * it is likely to be free again after a restart.
 *
 * @param except a port that is about to be taken
 * @throws `xmpp.no-port`
 */
export async function freePort(world: World, host: string, except = 0): Promise<number> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const port = FIRST + Math.floor(world.random.fraction() * COUNT);
    if (port !== except && (await isFree(host, port))) return port;
  }
  throw new TesseraError("environment", "xmpp.no-port", `no free port found on ${host}`, {
    subject: host,
    remedy: "name a free port in the configuration",
  });
}

function isFree(host: string, port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const server = createServer();
  server.once("error", () => resolve(false));
  server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  return promise;
}
