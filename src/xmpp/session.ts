import { TesseraError, type World } from "#core";
import { childOf, childrenOf, stanza, textOf, xml, type XmlElement } from "./element.ts";
import { bareOf, localOf } from "./jid.ts";
import { NS } from "./namespaces.ts";
import { Scram } from "./scram.ts";
import { XmlStream, type StreamSettings } from "./stream.ts";

export interface Account {
  /** Bare JID. */
  readonly jid: string;
  readonly password: string;
}

export interface SessionSettings extends StreamSettings {
  readonly account: Account;
  /** The resource to ask for; the server may give another. */
  readonly resource: string;
  /** How long connecting and logging in may take. */
  readonly negotiation_ms: number;
}

/** A stream that is logged in and bound to a full JID. */
export interface Session {
  readonly jid: string;
  readonly stream: XmlStream;
}

/**
 * Connects, logs in with SCRAM-SHA-256 and binds (RFC 6120, sections 6 and 7). No weaker mechanism
 * is ever used.
 *
 * @throws `xmpp.login-refused`, `xmpp.login-forged`, `xmpp.login-unsupported`, `xmpp.timeout`,
 * `xmpp.certificate-refused`, `xmpp.offline`
 */
export async function openSession(world: World, settings: SessionSettings): Promise<Session> {
  const opening = XmlStream.open(settings);
  const stream = await withDeadline(world, settings, opening);
  const work = negotiate(world, stream, settings);
  try {
    return await stream.within(world.clock, settings.negotiation_ms, work);
  } catch (cause) {
    stream.end();
    throw cause;
  }
}

/** A server that accepts the connection but never finishes TLS must not hold us. */
async function withDeadline(
  world: World,
  settings: SessionSettings,
  opening: Promise<XmlStream>,
): Promise<XmlStream> {
  const expired = Promise.withResolvers<never>();
  const cancel = world.clock.after(settings.negotiation_ms, () => {
    void opening.then(
      (stream) => stream.end(),
      () => {},
    );
    const { domain } = settings;
    const message = `${domain} did not complete TLS in time`;
    expired.reject(new TesseraError("environment", "xmpp.timeout", message, { subject: domain }));
  });
  return Promise.race([opening, expired.promise]).finally(cancel);
}

async function negotiate(
  world: World,
  stream: XmlStream,
  settings: SessionSettings,
): Promise<Session> {
  stream.begin();
  await logIn(world, stream, await features(stream), settings);
  stream.begin();
  const offered = await features(stream);
  if (childOf(offered, NS.bind, "bind") === undefined) throw broken("no resource binding offered");
  return { jid: await bind(world, stream, settings), stream };
}

function broken(message: string): TesseraError {
  return new TesseraError("peer", "xmpp.protocol", `the server broke the protocol: ${message}`);
}

async function features(stream: XmlStream): Promise<XmlElement> {
  const element = await stream.receive();
  if (element.namespace === NS.streams && element.name === "features") return element;
  throw broken(`${element.name} instead of features`);
}

function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}

async function logIn(
  world: World,
  stream: XmlStream,
  offered: XmlElement,
  settings: SessionSettings,
): Promise<void> {
  requireMechanism(offered, settings.domain);
  const { jid, password } = settings.account;
  const nonce = Buffer.from(world.random.bytes(18)).toString("base64");
  const scram = new Scram(localOf(jid), password, nonce);
  stream.send(xml(NS.sasl, "auth", { mechanism: "SCRAM-SHA-256" }, base64(scram.first)));
  const final = await scram.final(await saslText(stream, "challenge", jid));
  stream.send(xml(NS.sasl, "response", {}, base64(final.message)));
  final.verify(await saslText(stream, "success", jid));
}

function requireMechanism(offered: XmlElement, domain: string): void {
  const mechanisms = childOf(offered, NS.sasl, "mechanisms");
  const names = mechanisms === undefined ? [] : childrenOf(mechanisms).map(textOf);
  if (names.includes("SCRAM-SHA-256")) return;
  const message = `${domain} does not offer SCRAM-SHA-256`;
  throw new TesseraError("environment", "xmpp.login-unsupported", message, {
    subject: domain,
    remedy: "enable SCRAM-SHA-256 on the server",
  });
}

async function saslText(
  stream: XmlStream,
  expected: "challenge" | "success",
  jid: string,
): Promise<string> {
  const element = await stream.receive();
  if (element.namespace === NS.sasl && element.name === expected) {
    return Buffer.from(textOf(element), "base64").toString("utf8");
  }
  if (element.name !== "failure") throw broken(`${element.name} instead of ${expected}`);
  const condition = childrenOf(element)[0]?.name ?? "no reason given";
  throw new TesseraError("environment", "xmpp.login-refused", `${jid}: ${condition}`, {
    subject: jid,
    remedy: "check the account's name and password",
  });
}

async function bind(world: World, stream: XmlStream, settings: SessionSettings): Promise<string> {
  const id = world.random.uuid();
  const resource = xml(NS.bind, "resource", {}, settings.resource);
  stream.send(stanza("iq", { type: "set", id }, xml(NS.bind, "bind", {}, resource)));
  const reply = await stream.receive();
  const jid = childOf(childOf(reply, NS.bind, "bind"), NS.bind, "jid");
  const { id: replied, type } = reply.attributes as { id?: string; type?: string };
  if (replied !== id || type !== "result" || jid === undefined) throw broken("binding failed");
  const full = textOf(jid);
  if (bareOf(full) !== settings.account.jid) throw broken(`bound to ${full}`);
  return full;
}
