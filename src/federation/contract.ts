import type { Json, Offer } from "#core";

/** A cloud that this one has been told to trust: the content of its card. */
export interface PeerCard {
  readonly cloud: string;
  readonly domain: string;
  /** Bare JID of its agent. */
  readonly jid: string;
  /** Ed25519 public key, SPKI DER, base64. Pinned. */
  readonly agentKey: string;
  /** PEM of the CA that signs its XMPP server, name-constrained to its domain; absent for public CAs. */
  readonly xmppCa?: string;
  /** Where its XMPP server is reached, when DNS does not tell. */
  readonly xmppAddress?: { readonly host: string; readonly port: number };
}

/** A cloud that is seen in the room. `offer` is a hint until it was confirmed by IQ. */
export interface Peer {
  readonly cloud: string;
  /** Real full JID, never the room nick. */
  readonly jid: string;
  readonly offer?: Offer;
  readonly seen_ms: number;
}

/**
 * Jingle's actions (XEP-0166), and four queries: for an offer, for a plan, for components that a
 * cloud would send to another one's destination, and for what it holds of some names.
 */
export type MessageAction =
  | "offer-get"
  | "plan-get"
  | "component-offer"
  | "component-find"
  | "session-initiate"
  | "session-info"
  | "session-terminate";

/**
 * A message between two agents. `body` is validated by its receiver. The transport signs it with
 * the agent's key over sender, receiver, session, action, nonce, expiry and body, and checks all
 * of these on the way in: a handler sees only fresh messages of allowed peers.
 */
export interface AgentMessage {
  readonly session: string;
  readonly action: MessageAction;
  readonly body: Json;
}

export type MessageHandler = (from: string, message: AgentMessage) => Promise<Json>;

/**
 * How agents meet and talk. Two implementations: XMPP, and in-process for tests and simulation.
 * `request` resolves with the peer's signed answer. It is at-most-once per call; callers repeat
 * it, so handlers are idempotent.
 */
export interface FederationTransport {
  readonly cloud: string;
  start(handler: MessageHandler): Promise<void>;
  stop(): Promise<void>;
  /** Announces by presence, and answers `offer-get` with it. */
  announce(offer: Offer): Promise<void>;
  /** Clouds present in the room that are on the allow-list, without ourselves. */
  peers(): readonly Peer[];
  /** Asks the cloud itself, and returns what it confirms. */
  confirmOffer(cloud: string): Promise<Offer>;
  /**
   * @throws `federation.unreachable`, `federation.timeout`, `federation.refused` (the handler's
   * error, with its own code as subject), `federation.forged`
   */
  request(cloud: string, message: AgentMessage, timeout_ms?: number): Promise<Json>;
  /** Calls back whenever a peer comes, goes or changes its offer; returns the unsubscriber. */
  onPeers(listener: () => void): () => void;
}

/** Signs and verifies with the agent's Ed25519 key; signatures are base64. */
export interface AgentKey {
  /** SPKI DER, base64. */
  readonly publicKey: string;
  sign(bytes: Uint8Array): string;
}
