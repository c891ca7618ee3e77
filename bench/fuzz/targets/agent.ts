/** What clouds say to each other by XMPP: the stream itself, offers, cards, migrations. */
import type { Json } from "#core";
import {
  decodeDestinationStatus,
  decodePlanAnswer,
  decodePlanQuestion,
  decodeProposal,
  decodeSession,
  decodeSourceStatus,
} from "../../../src/agent/migrations/messages.ts";
import { boundedJson } from "../../../src/federation/json.ts";
import { decodeOffer } from "../../../src/federation/offer.ts";
import { StreamParser } from "../../../src/xmpp/parser.ts";
import { changedJson } from "../json.ts";
import type { FuzzTarget } from "../target.ts";

const DIGEST = `sha256:${"ab".repeat(32)}`;
const UUID = "01234567-89ab-4cde-8f01-23456789abcd";
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));

const reference = (kind: string) => ({
  id: DIGEST,
  kind,
  name: kind,
  version: "1",
  sizeBytes: 4096,
  manifest: { digest: DIGEST, sizeBytes: 5 },
});
const appliance = {
  name: "web",
  digest: DIGEST,
  kernel: reference("kernel"),
  os: reference("os"),
  programs: [reference("program")],
  resources: {
    cpus: 1,
    memoryBytes: 2 ** 28,
    dataBytes: 2 ** 30,
    ports: [{ name: "http", guest: 80 }],
  },
  serviceLevel: { clouds: [], regions: ["x"], priority: 50, maySlowDown: true },
};
const data = {
  endpoint: { candidates: [{ host: "127.0.0.1", port: 1 }], certificate: DIGEST },
  token: "t".repeat(43),
};

function messages(
  name: string,
  seeds: readonly unknown[],
  decode: (from: string, body: Json) => unknown,
): FuzzTarget {
  return {
    name,
    codes: ["migration.message-invalid", "federation.malformed"],
    seeds: () => seeds.map(json),
    generate: changedJson,
    decode: (input) => decode("peer", boundedJson(input.toString("utf8"), 200_000)),
  };
}

const offer = {
  cloud: "messina",
  region: "it",
  cpusFree: 2,
  memoryFreeBytes: 5,
  storageFreeBytes: 5,
  accelerators: ["tcg"],
  cpuModels: ["max"],
  formats: ["tessera/1"],
  architectures: ["amd64"],
  linkRate: 5e7,
  egressPricePerGB: 0.1,
  receives: true,
  repository: { components: 1, heads: ["0123456789abcdef"], complete: true },
  seq: 1,
  expires_ms: 1,
};

function parseStream(input: Buffer): number {
  let stanzas = 0;
  const parser = new StreamParser({
    onOpen: () => undefined,
    onStanza: () => {
      stanzas += 1;
    },
    onDropped: () => undefined,
    onEnd: () => undefined,
  });
  parser.write(input.subarray(0, input.length / 2));
  parser.write(input.subarray(input.length / 2));
  return stanzas;
}

const STREAM =
  "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'" +
  " from='a' id='1' version='1.0' xml:lang='en'><iq type='get' id='1' from='a@b/c'>" +
  "<query xmlns='urn:tessera:offer:1' a='&lt;&amp;'>text &#65;<![CDATA[x]]></query></iq>" +
  "<presence><show/></presence></stream:stream>";

export const AGENT_TARGETS: readonly FuzzTarget[] = [
  messages(
    "plan-question",
    [{ version: 1, appliance, machine: UUID, name: "web", userDataBytes: 5 }],
    decodePlanQuestion,
  ),
  messages(
    "plan-answer",
    [
      {
        held: [DIGEST],
        bases: [{ component: DIGEST, bases: [DIGEST] }],
        certificate: DIGEST,
        objections: ["no"],
      },
    ],
    decodePlanAnswer,
  ),
  messages(
    "proposal",
    [
      {
        version: 1,
        machine: { uuid: UUID, name: "web", created_ms: 1 },
        appliance,
        composed: DIGEST,
        mode: "cold",
        wasRunning: true,
        userData: { sizeBytes: 1, allocatedBytes: 1 },
        handOverDigest: DIGEST,
        data,
      },
    ],
    decodeProposal,
  ),
  messages(
    "source-status",
    [
      {
        phase: "unknown",
        data,
        negotiate_ms: 5,
        stop: { how: "graceful", took_ms: 1, ago_ms: 2 },
        handOver: "t".repeat(43),
        signature: "x",
        error: { code: "a.b", fault: "peer", message: "no" },
      },
    ],
    decodeSourceStatus,
  ),
  messages(
    "destination-status",
    [{ phase: "unknown", error: { code: "a.b", fault: "peer", message: "no" } }],
    decodeDestinationStatus,
  ),
  messages("session-id", [UUID], decodeSession),
  {
    name: "offer",
    codes: ["federation.malformed"],
    seeds: () => [json(offer)],
    generate: changedJson,
    decode: (input) => decodeOffer(input.toString("utf8")),
  },
  {
    name: "xmpp-stream",
    codes: ["xmpp.xml-invalid", "xmpp.xml-restricted", "xmpp.stanza-too-large", "xmpp.too-deep"],
    seeds: () => [Buffer.from(STREAM)],
    decode: parseStream,
  },
];
