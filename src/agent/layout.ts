import { join, resolve } from "node:path";
import { hexOf, type Digest } from "#core";

/** Where a cloud keeps what: every path below its state directory is named here. */
export interface Layout {
  readonly root: string;
  readonly config: string;
  readonly socket: string;
  readonly agentKey: string;
  /** The private key with which this cloud signs components. */
  readonly signingKey: string;
  /** Its public part, to be handed out. */
  readonly signingPublicKey: string;
  /** Public keys of those whose signatures count: NAME.pem. */
  readonly signers: string;
  readonly data: string;
  readonly xmpp: string;
  readonly peers: string;
  readonly repository: string;
  readonly appliances: string;
  readonly machines: string;
  readonly composed: string;
  readonly incoming: string;
  readonly journal: string;
  readonly cache: string;
  readonly work: string;
}

/** All paths are absolute: programs that are started in other directories are told of them. */
export function layoutOf(directory: string): Layout {
  const root = resolve(directory);
  return {
    root,
    config: join(root, "cloud.yaml"),
    socket: join(root, "agent.sock"),
    agentKey: join(root, "keys", "agent.pem"),
    signingKey: join(root, "keys", "signing.pem"),
    signingPublicKey: join(root, "keys", "signing.pub"),
    signers: join(root, "keys", "signers"),
    data: join(root, "keys", "data"),
    xmpp: join(root, "xmpp"),
    peers: join(root, "peers"),
    repository: join(root, "repository"),
    appliances: join(root, "appliances"),
    machines: join(root, "machines"),
    composed: join(root, "composed"),
    incoming: join(root, "incoming"),
    journal: join(root, "journal.sqlite"),
    cache: join(root, "cache"),
    work: join(root, "work"),
  };
}

export function composedPath(layout: Layout, appliance: Digest): string {
  return join(layout.composed, hexOf(appliance).slice(0, 32));
}
