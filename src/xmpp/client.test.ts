import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { createCertificates, type Certificates } from "./certificates.ts";
import { conditionOf, XmppClient } from "./client.ts";
import { stanza, xml } from "./element.ts";
import { NS } from "./namespaces.ts";
import { startServer, type EmbeddedServer } from "./server.ts";

const world = realWorld();
const loopback = { host: "127.0.0.1", port: 0 };
const backOff_ms = { first: 20, longest: 100 };
const ping = xml(NS.ping, "ping");
let directory: string;
let certificates: Certificates;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "tessera-client-"));
  certificates = await createCertificates(world, join(directory, "pki"), "alpha.example");
});
after(() => rm(directory, { recursive: true, force: true }));

describe("client and embedded server", () => {
  let server: EmbeddedServer;
  let client: XmppClient;

  before(async () => {
    const options = { certificates, hostsRooms: false, c2s: loopback, s2s: loopback, peers: [] };
    server = await startServer(world, { directory: join(directory, "xmpp"), ...options });
    const { account, c2s: address, ca } = server;
    client = new XmppClient(world, { account, address, ca, backOff_ms });
    await client.start();
  });
  after(async () => {
    await client.stop();
    await server.stop();
  });

  it("refuses a wrong password, and says that it was refused", async () => {
    const account = { ...server.account, password: "not the password" };
    const other = new XmppClient(world, { account, address: server.c2s, ca: server.ca });
    await assert.rejects(other.start(), (error) => hasCode(error, "xmpp.login-refused"));
  });

  it("refuses a server whose certificate is not by the given authority", async () => {
    const strange = await createCertificates(world, join(directory, "b"), "beta.example");
    const settings = { account: server.account, address: server.c2s, ca: strange.ca };
    const other = new XmppClient(world, settings);
    await assert.rejects(other.start(), (error) => hasCode(error, "xmpp.certificate-refused"));
  });

  it("surfaces an error stanza by its condition", async () => {
    const asked = client.ask({ to: "x@nowhere.example", type: "get", payload: ping });
    await assert.rejects(asked, (error) => conditionOf(error) === "not-allowed");
  });

  it("answers a question that nobody handles with an error", async () => {
    const to = client.jid ?? "";
    const asked = client.ask({ to, type: "get", payload: xml("urn:unknown", "q") });
    await assert.rejects(asked, (error) => conditionOf(error) === "service-unavailable");
    assert.ok(await client.ask({ to, type: "get", payload: xml(NS.discoInfo, "query") }));
  });

  it("takes an answer only from the one that was asked", async () => {
    const { account, c2s: address, ca } = server;
    const [asked, liar] = [1, 2].map(() => new XmppClient(world, { account, address, ca }));
    assert.ok(asked && liar);
    await Promise.all([asked.start(), liar.start()]);
    const to = client.jid ?? "";
    asked.handleIq("urn:test", "q", async (iq) => {
      const { id } = iq.attributes;
      liar.send(stanza("iq", { to, id, type: "result" }, xml("urn:test", "lie")));
      // The liar's second stanza comes back only after its first one was delivered.
      await liar.ask({ to, type: "get", payload: ping });
      return xml("urn:test", "truth");
    });
    const question = { to: asked.jid ?? "", type: "get", payload: xml("urn:test", "q") } as const;
    const reply = await client.ask(question);
    assert.deepEqual(reply.children, [xml("urn:test", "truth")]);
    await Promise.all([asked.stop(), liar.stop()]);
  });

  it("fails what is unanswered when the session ends, and comes back", async () => {
    const hanging = Promise.withResolvers<undefined>();
    client.handleIq("urn:test", "hang", () => hanging.promise);
    const asked = client.ask({
      to: client.jid ?? "",
      type: "get",
      payload: xml("urn:test", "hang"),
    });
    const jid = client.jid;
    const online = new Promise<void>((resolve) => {
      client.onOnline(resolve);
    });
    client.send(xml("urn:not-a-stanza", "breach"));
    await assert.rejects(asked, (error) => hasCode(error, "xmpp.stream-error"));
    await online;
    assert.equal(client.jid, jid);
    assert.ok(await client.ask({ type: "get", payload: ping }));
    hanging.resolve(undefined);
  });
});

describe("a client and a server that misbehaves", () => {
  const sockets = new Set<Socket>();
  let server: Server | undefined;

  async function serve(
    listener: (socket: Socket) => void,
    tls = true,
    jid = "agent@alpha.example",
  ): Promise<XmppClient> {
    const accept = (socket: Socket): void => {
      sockets.add(socket);
      socket.on("error", () => {});
      listener(socket);
    };
    const [cert, key] = await Promise.all([
      readFile(certificates.certificatePath),
      readFile(certificates.keyPath),
    ]);
    server = tls
      ? createTlsServer({ cert, key }, (socket: TLSSocket) => accept(socket))
      : createServer(accept);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    return new XmppClient(world, {
      account: { jid, password: "secret" },
      address: { host: "127.0.0.1", port },
      ca: certificates.ca,
      negotiation_ms: 300,
    });
  }

  async function over(): Promise<void> {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => {
      server?.close(resolve);
    });
  }

  const header =
    '<stream:stream xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams" version="1.0">';
  const offer = (mechanism: string): string =>
    `${header}<stream:features><mechanisms xmlns="${NS.sasl}">` +
    `<mechanism>${mechanism}</mechanism></mechanisms></stream:features>`;

  for (const [what, code, tls, says] of [
    ["never begins TLS", "xmpp.timeout", false, ""],
    ["says nothing", "xmpp.timeout", true, ""],
    ["offers only PLAIN", "xmpp.login-unsupported", true, offer("PLAIN")],
    [
      "claims success without a challenge",
      "xmpp.protocol",
      true,
      `${offer("SCRAM-SHA-256")}<success xmlns="${NS.sasl}"/>`,
    ],
    ["speaks another protocol", "xmpp.xml-invalid", true, "HTTP/1.1 200 OK\r\n\r\n"],
    ["ends the stream", "xmpp.offline", true, `${header}</stream:stream>`],
    [
      "reports an error",
      "xmpp.stream-error",
      true,
      `${header}<stream:error><host-unknown xmlns="${NS.streamErrors}"/></stream:error>`,
    ],
  ] as const) {
    it(`gives up on one that ${what}`, async () => {
      const client = await serve((socket) => socket.write(says), tls);
      await assert.rejects(client.start(), (error) => hasCode(error, code));
      await over();
    });
  }

  it("does not log in where the certificate is for another domain", async () => {
    const client = await serve(() => {}, true, "agent@beta.example");
    await assert.rejects(client.start(), (error) => hasCode(error, "xmpp.certificate-refused"));
    await over();
  });

  it("does not accept one that cannot sign at the end", async () => {
    const client = await serve((socket) => {
      socket.write(offer("SCRAM-SHA-256"));
      socket.on("data", (bytes: Buffer) => {
        const auth = /<auth [^>]*>([^<]+)</.exec(bytes.toString());
        if (auth?.[1] !== undefined) {
          const nonce = /r=([^,]+)/.exec(Buffer.from(auth[1], "base64").toString())?.[1] ?? "";
          const first = `r=${nonce}more,s=${Buffer.from("12345678").toString("base64")},i=4096`;
          const text = Buffer.from(first).toString("base64");
          socket.write(`<challenge xmlns="${NS.sasl}">${text}</challenge>`);
        } else if (bytes.includes("<response")) {
          const final = Buffer.from(`v=${Buffer.alloc(32).toString("base64")}`).toString("base64");
          socket.write(`<success xmlns="${NS.sasl}">${final}</success>`);
        }
      });
    });
    await assert.rejects(client.start(), (error) => hasCode(error, "xmpp.login-forged"));
    await over();
  });
});
