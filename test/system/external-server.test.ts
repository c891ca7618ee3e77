/** A cloud whose XMPP server is the site's own meets a cloud with an embedded one. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { initCloud, startAgent, type Agent } from "#agent";
import { connectAgent } from "#cli";
import { realWorld } from "#system";
import { createCertificates, startServer } from "#xmpp";
import { NO_FAULTS } from "../../src/agent/faults.ts";
import { cardOf, loadCloud } from "../../src/agent/cloud.ts";

const world = realWorld();
const ROOM = "federation@rooms.messina.example";
const MEET_MS = 30_000;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function init(root: string, name: string): Promise<void> {
  await initCloud(world, root, {
    name,
    domain: `${name}.example`,
    room: ROOM,
    host: "127.0.0.1",
    advertise: "127.0.0.1",
    clientPort: await freePort(),
    serverPort: await freePort(),
    dataPort: await freePort(),
  });
}

/** Turns a cloud's configuration to a server that runs already. */
async function useServer(root: string, client: number, server: number): Promise<void> {
  const path = join(root, "cloud.yaml");
  const text = await readFile(path, "utf8");
  const external = [
    "xmpp:",
    "  server: external",
    "  host: 127.0.0.1",
    `  port: ${client}`,
    "  passwordFile: password",
    "  caFile: ca.pem",
    `  advertise: { host: 127.0.0.1, port: ${server} }`,
    "data:",
  ];
  await writeFile(path, text.replace(/^xmpp:\n(?: .*\n)+data:/m, external.join("\n")));
}

async function meets(agent: Agent, other: string): Promise<void> {
  const api = connectAgent(agent.socket);
  const deadline = performance.now() + MEET_MS;
  for (;;) {
    const { clouds } = await api.call("cloud.list", {});
    if (clouds.some(({ cloud, offer }) => cloud === other && offer !== undefined)) return;
    assert.ok(performance.now() < deadline, `${agent.cloud} does not see ${other}`);
    await world.clock.sleep(50);
  }
}

test("a cloud at the site's own server joins the federation and confirms its offer", async () => {
  const directory = await mkdtemp(join(tmpdir(), "tessera-external-"));
  const closers: (() => Promise<void>)[] = [];
  try {
    const [messina, inquadro] = [join(directory, "messina"), join(directory, "inquadro")];
    await init(messina, "messina");
    await init(inquadro, "inquadro");
    const messinaCard = cardOf(await loadCloud(world, messina));
    const site = await startServer(world, {
      directory: join(directory, "site"),
      certificates: await createCertificates(world, join(directory, "ca"), "inquadro.example"),
      hostsRooms: false,
      c2s: { host: "127.0.0.1", port: 0 },
      s2s: { host: "127.0.0.1", port: 0 },
      peers: [
        {
          domain: "messina.example",
          ca: messinaCard.xmppCa ?? "",
          address: messinaCard.xmppAddress ?? { host: "", port: 0 },
        },
      ],
    });
    closers.push(() => site.stop());
    await writeFile(join(inquadro, "password"), `${site.account.password}\n`, { mode: 0o600 });
    await writeFile(join(inquadro, "ca.pem"), site.ca);
    await useServer(inquadro, site.c2s.port, site.s2s.port);
    const inquadroCard = cardOf(await loadCloud(world, inquadro));
    assert.equal(inquadroCard.xmppCa, site.ca);

    const options = { hooks: NO_FAULTS, accelerator: "tcg", version: "test" } as const;
    const agents = [
      await startAgent(world, messina, options),
      await startAgent(world, inquadro, options),
    ] as const;
    closers.push(...agents.map((agent) => () => agent.stop()));
    await connectAgent(agents[0].socket).call("peer.add", { card: inquadroCard });
    await connectAgent(agents[1].socket).call("peer.add", { card: messinaCard });
    await meets(agents[0], "inquadro");
    await meets(agents[1], "messina");
    const shown = await connectAgent(agents[0].socket).call("cloud.show", { cloud: "inquadro" });
    assert.equal(shown.offer.cloud, "inquadro");
  } finally {
    for (const close of closers.toReversed()) await close();
    await rm(directory, { recursive: true, force: true });
  }
});
