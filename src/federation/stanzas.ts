/** How messages between agents look as stanzas: Jingle's shape (XEP-0166), our namespaces. */
import { hasCode, reportOf, type ErrorReport, type TesseraError } from "#core";
import {
  bareOf,
  childOf,
  conditionOf,
  errorPayload,
  NS,
  textOf,
  xml,
  type StanzaFailure,
  type XmlElement,
} from "#xmpp";
import type { Parcel } from "./carrier.ts";
import type { MessageAction } from "./contract.ts";
import type { Sealed } from "./envelope.ts";
import { refusal } from "./exchange.ts";
import { timeout, unreachable } from "./in-process.ts";
import { malformed } from "./json.ts";

/** Requests and answers. */
export const MIGRATION_NS = "urn:tessera:migration:1";
/** The data plane, as Jingle's transport. */
export const DATA_NS = "urn:tessera:data:1";
/** Offers in presence. */
export const OFFER_NS = "urn:tessera:offer:1";

const QUERIES: ReadonlySet<MessageAction> = new Set([
  "offer-get",
  "plan-get",
  "component-offer",
  "component-find",
]);

export function isQuery(action: MessageAction): boolean {
  return QUERIES.has(action);
}

function envelopeElement(sealed: Sealed): XmlElement {
  return xml(MIGRATION_NS, "envelope", { signature: sealed.signature }, sealed.text);
}

/** The payload of a request's IQ. */
export function requestPayload(parcel: Parcel, initiator: string): XmlElement {
  const { action, session, sealed } = parcel;
  const envelope = envelopeElement(sealed);
  if (isQuery(action)) return xml(MIGRATION_NS, "query", { action, sid: session }, envelope);
  const content = xml(
    NS.jingle,
    "content",
    { creator: "initiator", name: "machine" },
    xml(MIGRATION_NS, "description"),
    xml(DATA_NS, "transport"),
  );
  return xml(NS.jingle, "jingle", { action, sid: session, initiator }, content, envelope);
}

/** The payload of an answer's IQ. */
export function answerPayload(sealed: Sealed): XmlElement {
  return xml(MIGRATION_NS, "answer", {}, envelopeElement(sealed));
}

function sealedIn(parent: XmlElement | undefined): Sealed {
  const envelope = childOf(parent, MIGRATION_NS, "envelope");
  const signature = envelope?.attributes["signature"];
  if (envelope === undefined || signature === undefined) throw malformed("no signed envelope");
  return { text: textOf(envelope), signature };
}

/** @throws `federation.malformed` */
export function readRequest(iq: XmlElement): { from: string; sealed: Sealed } {
  const payload = childOf(iq, NS.jingle, "jingle") ?? childOf(iq, MIGRATION_NS, "query");
  const from = iq.attributes["from"];
  if (from === undefined || bareOf(from) === from) throw malformed("without a full sender");
  if (childOf(iq, NS.delay, "delay") !== undefined) throw malformed("delayed, and so stale");
  return { from, sealed: sealedIn(payload) };
}

/** @throws `federation.malformed` */
export function readAnswer(iq: XmlElement): Sealed {
  return sealedIn(childOf(iq, MIGRATION_NS, "answer"));
}

/** A request that does not pass the checks is refused without a signature, by its code alone. */
export function refusalPayload(error: unknown): XmlElement {
  const { code } = reportOf(error);
  const payload = errorPayload(
    "cancel",
    hasCode(error, "federation.not-a-peer") ? "forbidden" : "not-acceptable",
  );
  const reason = xml(MIGRATION_NS, "reason", { code });
  return { ...payload, children: [...payload.children, reason] };
}

/** What became of a request that got no signed answer. */
export function failedRequest(error: unknown, to: string): TesseraError {
  if (hasCode(error, "xmpp.timeout")) return timeout(to, error);
  const condition = conditionOf(error);
  if (condition !== "forbidden" && condition !== "not-acceptable") return unreachable(to, error);
  const { text, element } = (error as TesseraError).cause as StanzaFailure;
  const reason = childOf(element, MIGRATION_NS, "reason")?.attributes["code"];
  const report: ErrorReport = {
    code: reason ?? "federation.not-acceptable",
    fault: "peer",
    message: text || condition,
  };
  return refusal(bareOf(to), { ...report });
}
