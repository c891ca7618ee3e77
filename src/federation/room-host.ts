/** What the owner of the federation's room does (XEP-0045, section 10): settings and members. */
import { childOf, childrenOf, NS, xml, type XmlElement, type XmppClient } from "#xmpp";

const SETTINGS: Readonly<Record<string, string>> = {
  "muc#roomconfig_persistentroom": "1",
  "muc#roomconfig_membersonly": "1",
  "muc#roomconfig_whois": "anyone",
  "muc#roomconfig_publicroom": "0",
  "muc#roomconfig_moderatedroom": "0",
  "muc#roomconfig_changesubject": "0",
  "muc#roomconfig_allowinvites": "0",
  "muc#roomconfig_historylength": "0",
};

function field(name: string, value: string): XmlElement {
  return xml(NS.data, "field", { var: name }, xml(NS.data, "value", {}, value));
}

/** Configures the room; it opens a new one, and repeating it changes nothing. */
export async function configureRoom(client: XmppClient, room: string): Promise<void> {
  const fields = Object.entries(SETTINGS).map(([name, value]) => field(name, value));
  const form = xml(NS.data, "x", { type: "submit" }, field("FORM_TYPE", NS.mucConfig), ...fields);
  await client.ask({ to: room, type: "set", payload: xml(NS.mucOwner, "query", {}, form) });
}

async function membersOf(client: XmppClient, room: string): Promise<Set<string>> {
  const item = xml(NS.mucAdmin, "item", { affiliation: "member" });
  const payload = xml(NS.mucAdmin, "query", {}, item);
  const reply = await client.ask({ to: room, type: "get", payload });
  const query = childOf(reply, NS.mucAdmin, "query");
  const items = query === undefined ? [] : childrenOf(query);
  return new Set(items.flatMap(({ attributes }) => attributes["jid"] ?? []));
}

/** Makes exactly these bare JIDs the room's members; others lose their place at once. */
export async function setMembers(
  client: XmppClient,
  room: string,
  wanted: readonly string[],
): Promise<void> {
  const present = await membersOf(client, room);
  const keep = new Set(wanted);
  const changes = [
    ...wanted.filter((jid) => !present.has(jid)).map((jid) => ({ jid, affiliation: "member" })),
    ...[...present].filter((jid) => !keep.has(jid)).map((jid) => ({ jid, affiliation: "none" })),
  ];
  // One at a time: Prosody 0.12 reads only the first item of a list.
  for (const change of changes) {
    const payload = xml(NS.mucAdmin, "query", {}, xml(NS.mucAdmin, "item", change));
    await client.ask({ to: room, type: "set", payload });
  }
}
