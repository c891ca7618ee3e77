export type * from "./contract.ts";
export { cardFingerprint, encodeCard, parseCard, validateCard } from "./card.ts";
export {
  createInProcessFederation,
  type Fate,
  type InProcessFederation,
  type Passage,
} from "./in-process.ts";
export { fingerprintOf, loadOrCreateAgentKey, temporaryAgentKey, verifySignature } from "./key.ts";
export {
  createXmppTransport,
  type Timing,
  type XmppTransport,
  type XmppTransportSettings,
} from "./xmpp-transport.ts";
