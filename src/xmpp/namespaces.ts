/** XML namespaces of XMPP that this room uses (RFC 6120 and the XEPs named beside them). */
export const NS = {
  client: "jabber:client",
  streams: "http://etherx.jabber.org/streams",
  streamErrors: "urn:ietf:params:xml:ns:xmpp-streams",
  stanzas: "urn:ietf:params:xml:ns:xmpp-stanzas",
  sasl: "urn:ietf:params:xml:ns:xmpp-sasl",
  bind: "urn:ietf:params:xml:ns:xmpp-bind",
  /** XEP-0030 */
  discoInfo: "http://jabber.org/protocol/disco#info",
  /** XEP-0045 */
  muc: "http://jabber.org/protocol/muc",
  mucUser: "http://jabber.org/protocol/muc#user",
  mucAdmin: "http://jabber.org/protocol/muc#admin",
  mucOwner: "http://jabber.org/protocol/muc#owner",
  mucConfig: "http://jabber.org/protocol/muc#roomconfig",
  /** XEP-0004 */
  data: "jabber:x:data",
  /** XEP-0166 */
  jingle: "urn:xmpp:jingle:1",
  /** XEP-0199 */
  ping: "urn:xmpp:ping",
  /** XEP-0203 */
  delay: "urn:xmpp:delay",
} as const;
