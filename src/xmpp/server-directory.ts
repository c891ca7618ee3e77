import { join } from "node:path";
import { TesseraError, type World } from "#core";
import { requireConstrainedCa, roomsDomainOf, type Certificates } from "./certificates.ts";
import { isDomain } from "./jid.ts";
import { serverConfigText, type ServerConfig } from "./server-config.ts";
import type { Account } from "./session.ts";
import type { StreamAddress } from "./stream.ts";

/** Another cloud's server, as its card tells. */
export interface ServerPeer {
  readonly domain: string;
  /** PEM of its name-constrained authority; absent means that it has a public certificate. */
  readonly ca?: string;
  /** Where its server-to-server port is; absent asks DNS. */
  readonly address?: StreamAddress;
}

/** A user of the system by its numbers. */
export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

const FILE_BYTES_MAX = 1024 * 1024;
const USER = "prosody";

async function succeed(world: World, program: string, args: readonly string[]): Promise<string> {
  const result = await world.processes.run(program, args);
  if (result.exitCode === 0) return Buffer.from(result.output).toString("utf8").trim();
  throw new TesseraError("environment", "xmpp.server-failed", `${program} failed`, {
    subject: args.join(" "),
    remedy: "look at the cause",
    cause: new Error(result.errorText),
  });
}

/** Prosody refuses to be root: when we are, it runs as Debian's own user for it. */
export async function serverUser(world: World): Promise<SystemUser | undefined> {
  if ((await succeed(world, "id", ["-u"])) !== "0") return undefined;
  const uid = Number(await succeed(world, "id", ["-u", USER]));
  const gid = Number(await succeed(world, "id", ["-g", USER]));
  return { uid, gid };
}

/**
 * Writes what depends on the peers: the configuration, the trusted authorities, and the domains
 * and routes that the server's module reads. Returns the generation that it will report.
 *
 * @throws `xmpp.ca-unconstrained`, `xmpp.domains-overlap`
 */
export async function writePeers(
  world: World,
  directory: string,
  config: Omit<ServerConfig, "publicAuthorities">,
  ca: string,
  peers: readonly ServerPeer[],
): Promise<string> {
  requireApart([config.domain, ...peers.map(({ domain }) => domain)]);
  const authorities = [ca];
  for (const { domain, ca: pem } of peers) {
    if (pem !== undefined) authorities.push(await requireConstrainedCa(world, pem, domain));
  }
  const publicAuthorities = peers.some(({ ca: pem }) => pem === undefined);
  const generation = world.random.uuid();
  const write = (name: string, text: string): Promise<void> =>
    world.files.writeFileAtomic(join(directory, name), text, 0o644);
  await world.files.makeDirectory(directory, 0o700);
  await write("trust.pem", authorities.join("\n"));
  await write("prosody.cfg.lua", serverConfigText({ ...config, publicAuthorities }));
  await write("peers.json", JSON.stringify({ generation, ...admission(peers) }));
  return generation;
}

function admission(peers: readonly ServerPeer[]): {
  allowed: string[];
  routes: Record<string, StreamAddress>;
} {
  const routes: Record<string, StreamAddress> = {};
  const allowed = peers.flatMap(({ domain, address }) => {
    const domains = [domain, roomsDomainOf(domain)];
    if (address !== undefined) for (const name of domains) routes[name] = address;
    return domains;
  });
  return { allowed, routes };
}

/** A CA of `example.org` may sign for `a.example.org`: such clouds cannot be told apart. */
function requireApart(domains: readonly string[]): void {
  for (const [index, domain] of domains.entries()) {
    const clash = domains.find(
      (other, at) => at !== index && (other === domain || other.endsWith(`.${domain}`)),
    );
    if (isDomain(domain) && clash === undefined) continue;
    throw new TesseraError("misuse", "xmpp.domains-overlap", `${clash ?? domain} cannot be used`, {
      subject: clash ?? domain,
      remedy: "give every cloud a domain that is not below another cloud's",
    });
  }
}

export interface DirectoryContent {
  readonly account: Account;
  readonly certificates: Certificates;
  readonly user: SystemUser | undefined;
}

/** Lays out what the server reads at its start, and hands the directory to its user. */
export async function prepareDirectory(
  world: World,
  directory: string,
  content: DirectoryContent,
): Promise<void> {
  const { files } = world;
  const { certificates, account, user } = content;
  for (const name of ["modules", "certificates", "no-authorities"]) {
    await files.makeDirectory(join(directory, name), 0o700);
  }
  await copy(world, certificates.certificatePath, join(directory, "certificates/server.pem"));
  await copy(world, certificates.keyPath, join(directory, "certificates/server-key.pem"));
  const module = join(import.meta.dirname, "prosody/mod_tessera.lua");
  await copy(world, module, join(directory, "modules/mod_tessera.lua"));
  await files.writeFileAtomic(join(directory, "account.json"), JSON.stringify(account), 0o600);
  await files.remove(join(directory, "status.json"));
  if (user === undefined) return;
  const owner = `${user.uid}:${user.gid}`;
  await succeed(world, "chown", ["-R", "--no-dereference", owner, directory]);
}

async function copy(world: World, from: string, to: string): Promise<void> {
  const content = await world.files.readFile(from, FILE_BYTES_MAX);
  await world.files.writeFileAtomic(to, content, 0o600);
}
