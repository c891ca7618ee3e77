/**
 * Ports of the host lead to a guest only where it runs: a connection that is accepted before it has
 * arrived would be tried on the guest again and again, and hundreds of them hold it up when it goes on.
 */
import { z } from "zod";
import { TesseraError, type PortForward } from "#core";
import { chooseHostPorts, portWasTaken } from "../ports.ts";
import { broken } from "./decode.ts";
import type { HotSession } from "./session.ts";

type HostPorts = Readonly<Record<string, number>>;

const NETWORK = "network";
const ADDRESS = "127.0.0.1";
const ATTEMPTS_MAX = 5;
const WORDS = z.string();

/** QEMU takes these commands in words for people alone. */
async function say(session: HotSession, line: string): Promise<string> {
  const answer = await session.execute("human-monitor-command", { "command-line": line });
  const words = WORDS.safeParse(answer);
  if (words.success) return words.data;
  throw broken(`"${line}" is answered with what is no text`, words.error);
}

/** Ports that are closed already stay so. */
export async function closePorts(session: HotSession, hostPorts: HostPorts): Promise<void> {
  for (const port of Object.values(hostPorts)) {
    await say(session, `hostfwd_remove ${NETWORK} tcp:${ADDRESS}:${port}`);
  }
}

/**
 * The guest's network card has a link, whatever the status that came with it says: its source may have
 * let go of the guest's connections before that status was complete.
 */
export async function connectGuest(session: HotSession): Promise<void> {
  await session.execute("set_link", { name: NETWORK, up: true });
}

/**
 * Ports that are open already stay so; one that another program has taken meanwhile is replaced.
 *
 * @returns the ports that are open now, by the forward's name
 * @throws `hypervisor.port-taken`
 */
export async function openPorts(
  session: HotSession,
  forwards: readonly PortForward[],
  hostPorts: HostPorts,
): Promise<Record<string, number>> {
  const open: Record<string, number> = {};
  for (const forward of forwards) {
    open[forward.name] = await openPort(session, forward, hostPorts[forward.name]);
  }
  return open;
}

async function openPort(
  session: HotSession,
  { name, guest }: PortForward,
  wished: number | undefined,
): Promise<number> {
  let port = wished;
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt++) {
    port ??= (await chooseHostPorts([{ name, guest }]))[name] ?? 0;
    const words = await say(session, `hostfwd_add ${NETWORK} tcp:${ADDRESS}:${port}-:${guest}`);
    if (words.trim() === "" || (await isOpen(session, port))) return port;
    if (!portWasTaken(words)) throw notOpen(name, words.trim());
    port = undefined;
  }
  throw notOpen(name, "other programs took every port that was free");
}

/** Is it this QEMU that has the port? */
async function isOpen(session: HotSession, port: number): Promise<boolean> {
  const line = new RegExp(`\\[HOST_FORWARD\\]\\s+\\d+\\s+${ADDRESS}\\s+${port}\\s`);
  return line.test(await say(session, "info usernet"));
}

function notOpen(name: string, reason: string): TesseraError {
  const message = `no port of the host leads to the guest's "${name}": ${reason}`;
  return new TesseraError("environment", "hypervisor.port-taken", message);
}
