import { TesseraError } from "#core";
import type { Handlers, Output } from "#api";
import type { Peer, PeerCard } from "#federation";
import type { Parts } from "./parts.ts";

type FederationOperations = Pick<
  Handlers,
  | "agent.info"
  | "agent.shutdown"
  | "peer.list"
  | "peer.add"
  | "peer.remove"
  | "cloud.list"
  | "cloud.show"
>;

export function federationHandlers(parts: Parts): FederationOperations {
  const { transport, peers } = parts;
  return {
    "agent.info": () => Promise.resolve(info(parts)),
    "agent.shutdown": () => {
      parts.shutdown();
      return Promise.resolve({});
    },
    "peer.list": () =>
      Promise.resolve({ peers: peers.list().map((card) => peerView(parts, card)) }),
    "peer.add": async ({ card }) => {
      await peers.add(card);
      return peerView(parts, card);
    },
    "peer.remove": async ({ cloud }) => {
      await peers.remove(cloud);
      return { removed: cloud };
    },
    "cloud.list": () => Promise.resolve({ clouds: transport.peers().map(cloudView) }),
    "cloud.show": async ({ cloud }) => {
      const peer = transport.peers().find((seen) => seen.cloud === cloud);
      if (peer === undefined) throw notPresent(cloud);
      return { cloud: cloudView(peer), offer: await transport.confirmOffer(cloud) };
    },
  };
}

function info(parts: Parts): Output<"agent.info"> {
  const { config, layout, version, accelerator, started_ms } = parts;
  const card = parts.card();
  const [candidate] = parts.dataServer.endpoint.candidates;
  return {
    cloud: config.cloud,
    domain: config.domain,
    version,
    directory: layout.root,
    card,
    fingerprint: parts.fingerprint(card),
    transport: { state: parts.transportState() },
    dataPort: candidate?.port ?? 0,
    accelerator,
    started_ms,
  };
}

function peerView(parts: Parts, card: PeerCard): Output<"peer.add"> {
  const present = parts.transport.peers().some(({ cloud }) => cloud === card.cloud);
  return { card, fingerprint: parts.fingerprint(card), present };
}

function cloudView({ cloud, jid, offer, seen_ms }: Peer): Output<"cloud.list">["clouds"][number] {
  return { cloud, jid, seen_ms, ...(offer === undefined ? {} : { offer }) };
}

function notPresent(cloud: string): TesseraError {
  const message = `cloud "${cloud}" is not present in the federation`;
  return new TesseraError("misuse", "federation.not-present", message, {
    subject: cloud,
    remedy: 'see "tessera cloud ls"',
  });
}
