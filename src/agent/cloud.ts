import { dirname, join, resolve } from "node:path";
import { TesseraError, type World } from "#core";
import {
  loadOrCreateAgentKey,
  temporaryAgentKey,
  validateCard,
  type AgentKey,
  type PeerCard,
} from "#federation";
import { createCertificates, requireDomain, type Certificates } from "#xmpp";
import { parseConfig, readConfig, renderConfig, type Config } from "./config.ts";
import { layoutOf, type Layout } from "./layout.ts";

export interface InitOptions {
  readonly name: string;
  readonly domain: string;
  readonly region?: string;
  /** JID of the federation's room; by default this cloud hosts it. */
  readonly room?: string;
  /** Address to listen on; default all. */
  readonly host?: string;
  /** Host name or address that other clouds are told; default the domain. */
  readonly advertise?: string;
  readonly clientPort?: number;
  readonly serverPort?: number;
  readonly dataPort?: number;
  /** Data port that other clouds are told, where a forward or a relay stands before ours. */
  readonly advertiseDataPort?: number;
  readonly cpus?: number;
  readonly memory?: string;
  readonly link?: string;
}

const CLIENT_PORT = 5223;
const SERVER_PORT = 5270;
const DATA_PORT = 5280;
const CA_BYTES_MAX = 2 ** 16;

/** What makes a cloud this cloud: its configuration, keys and certificates. */
export interface Cloud {
  readonly layout: Layout;
  readonly config: Config;
  readonly key: AgentKey;
  /** Absent where the site has its own XMPP server. */
  readonly certificates?: Certificates;
  /** PEM of the authority of this cloud's XMPP server; absent where that is a public one. */
  readonly xmppCa?: string;
}

/**
 * Makes a new cloud in a directory: agent key, certificates, and the configuration at last, with
 * which the cloud exists. What was made before a failure is used the next time.
 *
 * @throws `agent.cloud-exists`, `agent.config-invalid`, `xmpp.domain-invalid` (misuse)
 */
export async function initCloud(world: World, root: string, options: InitOptions): Promise<Cloud> {
  const layout = layoutOf(root);
  if ((await world.files.status(layout.config)) !== undefined) {
    throw new TesseraError("misuse", "agent.cloud-exists", `${root} holds a cloud already`, {
      subject: root,
      remedy: "choose another directory, or remove this one",
    });
  }
  const text = configText(options);
  const config = parseConfig(text, layout.config);
  requireCard({ layout, config, key: temporaryAgentKey() });
  await world.files.makeDirectory(root, 0o755);
  const cloud = await openCloud(world, layout, config);
  await world.files.writeFileAtomic(layout.config, text, 0o644);
  return cloud;
}

/** What others are told must be something that they take; asked before anything is made. */
function requireCard(cloud: Cloud): void {
  requireDomain(cloud.config.domain);
  try {
    validateCard(cardOf(cloud));
  } catch (cause) {
    const { host } = cardOf(cloud).xmppAddress ?? { host: "its address" };
    const message = `no other cloud would take this cloud's card: ${host} is not a host`;
    throw new TesseraError("misuse", "agent.config-invalid", message, {
      subject: cloud.layout.config,
      remedy: "advertise a host name or an IP address",
      cause,
    });
  }
}

function configText(options: InitOptions): string {
  const { name, domain } = options;
  const host = options.host ?? "0.0.0.0";
  const advertise = options.advertise ?? domain;
  const serverPort = options.serverPort ?? SERVER_PORT;
  const dataPort = options.dataPort ?? DATA_PORT;
  const { cpus, memory } = options;
  return renderConfig({
    cloud: name,
    domain,
    region: options.region ?? "default",
    room: options.room ?? `federation@rooms.${domain}`,
    xmpp: {
      server: "embedded",
      host,
      clientPort: options.clientPort ?? CLIENT_PORT,
      serverPort,
      advertise: { host: advertise, port: serverPort },
    },
    data: {
      host,
      port: dataPort,
      advertise: [{ host: advertise, port: options.advertiseDataPort ?? dataPort }],
    },
    ...(cpus === undefined && memory === undefined
      ? {}
      : {
          resources: {
            ...(cpus === undefined ? {} : { cpus }),
            ...(memory === undefined ? {} : { memory }),
          },
        }),
    ...(options.link === undefined ? {} : { link: options.link }),
  });
}

/** @throws `agent.cloud-missing`, `agent.config-invalid` (misuse) */
export async function loadCloud(world: World, root: string): Promise<Cloud> {
  const layout = layoutOf(root);
  if ((await world.files.status(layout.config)) === undefined) {
    throw new TesseraError("misuse", "agent.cloud-missing", `${root} holds no cloud`, {
      subject: root,
      remedy: `make one: tessera agent init ${root} --name NAME --domain DOMAIN`,
    });
  }
  return await openCloud(world, layout, await readConfig(world.files, layout.config));
}

async function openCloud(world: World, layout: Layout, config: Config): Promise<Cloud> {
  await world.files.makeDirectory(dirname(layout.agentKey), 0o700);
  const key = await loadOrCreateAgentKey(world, layout.agentKey);
  if (config.xmpp.server === "external") {
    const { caFile } = config.xmpp;
    if (caFile === undefined) return { layout, config, key };
    const bytes = await world.files.readFile(resolve(layout.root, caFile), CA_BYTES_MAX);
    return { layout, config, key, xmppCa: Buffer.from(bytes).toString("utf8") };
  }
  const certificates = await createCertificates(world, join(layout.xmpp, "ca"), config.domain);
  return { layout, config, key, certificates, xmppCa: certificates.ca };
}

/** What this cloud hands out so that others trust it. */
export function cardOf({ config, key, xmppCa }: Cloud): PeerCard {
  const { cloud, domain, xmpp } = config;
  const own = xmpp.server === "embedded" ? { host: xmpp.host, port: xmpp.serverPort } : undefined;
  const xmppAddress = xmpp.advertise ?? own;
  return {
    cloud,
    domain,
    jid: `agent@${domain}`,
    agentKey: key.publicKey,
    ...(xmppCa === undefined ? {} : { xmppCa }),
    ...(xmppAddress === undefined ? {} : { xmppAddress }),
  };
}
