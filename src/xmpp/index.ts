export {
  createCertificates,
  requireConstrainedCa,
  roomsDomainOf,
  type Certificates,
} from "./certificates.ts";
export {
  conditionOf,
  errorPayload,
  stanzaError,
  XmppClient,
  type ClientSettings,
  type IqHandler,
  type Question,
  type StanzaFailure,
} from "./client.ts";
export {
  childOf,
  childrenOf,
  stanza,
  textOf,
  xml,
  type XmlElement,
  type XmlNode,
} from "./element.ts";
export {
  bareOf,
  domainOf,
  isBareJid,
  isDomain,
  localOf,
  requireDomain,
  resourceOf,
} from "./jid.ts";
export { NS } from "./namespaces.ts";
export { startServer, type EmbeddedServer, type ServerOptions } from "./server.ts";
export type { ServerPeer } from "./server-directory.ts";
export type { Account } from "./session.ts";
export type { StreamAddress } from "./stream.ts";
