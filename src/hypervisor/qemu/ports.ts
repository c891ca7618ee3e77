import { createServer } from "node:net";
import { TesseraError, type PortForward } from "#core";

/**
 * A host port for every forward: the wished one, or one that is free now. All free ones are held
 * open until the last is chosen, so they differ. Another program may still take one before QEMU
 * binds it; {@link portWasTaken} tells so, and the launch is tried again with other ports.
 */
export async function chooseHostPorts(
  forwards: readonly PortForward[],
): Promise<Record<string, number>> {
  const held: { port: number; release: () => Promise<void> }[] = [];
  const chosen: Record<string, number> = {};
  try {
    for (const { name, host = 0 } of forwards) {
      if (host > 0) chosen[name] = host;
      else {
        const free = await holdFreePort();
        held.push(free);
        chosen[name] = free.port;
      }
    }
    return chosen;
  } finally {
    await Promise.all(held.map(({ release }) => release()));
  }
}

async function holdFreePort(): Promise<{ port: number; release: () => Promise<void> }> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  const release = (): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
  if (typeof address === "object" && address !== null) return { port: address.port, release };
  await release();
  throw new TesseraError("bug", "hypervisor.port-unknown", "a listening socket has no port");
}

/** Do QEMU's words mean that a host port of ours was taken by another program? */
export function portWasTaken(text: string): boolean {
  return /could not set up host forwarding rule/i.test(text);
}
