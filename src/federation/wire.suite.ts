/** A hand on the wire: raw streams for tests of what attackers could send, told as dialogues. */
import assert from "node:assert/strict";
import { connect as connectTcp, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import type { World } from "#core";

const PATIENCE_MS = 8_000;

export interface Credentials {
  readonly cert: string;
  readonly key: string;
}

export class Wire {
  #socket: Socket;
  #heard = "";
  #closed = false;
  #changed = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#listen(socket);
  }

  static async toServer(port: number): Promise<Wire> {
    const socket = connectTcp({ host: "127.0.0.1", port });
    return new Wire(socket);
  }

  static async toClientPort(port: number, domain: string): Promise<Wire> {
    return new Wire(
      connectTls({ host: "127.0.0.1", port, servername: domain, rejectUnauthorized: false }),
    );
  }

  says(text: string): void {
    this.#socket.write(text);
  }

  opens(from: string, to: string, namespace = "jabber:server"): void {
    this.#heard = "";
    this.says(
      `<?xml version="1.0"?><stream:stream from="${from}" to="${to}" version="1.0" ` +
        `xmlns="${namespace}" xmlns:stream="http://etherx.jabber.org/streams">`,
    );
  }

  /** Waits until the other side has said this; forgets all up to it. */
  async hears(pattern: RegExp): Promise<string> {
    const match = await this.#until(() => pattern.exec(this.#heard) ?? undefined);
    assert.ok(match, `heard ${JSON.stringify(this.#heard)} instead of ${pattern}`);
    this.#heard = this.#heard.slice(match.index + match[0].length);
    return match[0];
  }

  /** Waits until the other side has closed, and returns what it said before. */
  async closes(): Promise<string> {
    assert.ok(await this.#until(() => (this.#closed ? true : undefined)), "the stream stays open");
    return this.#heard;
  }

  /** STARTTLS, with or without a certificate of ours; the server's is not of interest here. */
  async secures(domain: string, credentials?: Credentials): Promise<void> {
    this.says('<starttls xmlns="urn:ietf:params:xml:ns:xmpp-tls"/>');
    await this.hears(/<proceed[^>]*>/);
    const plain = this.#socket;
    plain.removeAllListeners();
    this.#socket = connectTls({
      socket: plain,
      servername: domain,
      rejectUnauthorized: false,
      ...credentials,
    });
    this.#listen(this.#socket);
  }

  hangUp(): void {
    this.#socket.destroy();
  }

  #listen(socket: Socket): void {
    socket.on("data", (bytes: Buffer) => {
      this.#heard += bytes.toString("utf8");
      this.#tell();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#closed = true;
      this.#tell();
    });
  }

  #tell(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async #until<T>(found: () => T | undefined): Promise<T | undefined> {
    const late = new AbortController();
    const timer = setTimeout(() => {
      late.abort();
      this.#tell();
    }, PATIENCE_MS);
    while (!late.signal.aborted && !this.#closed && found() === undefined) {
      await this.#changed.promise;
    }
    clearTimeout(timer);
    return found();
  }
}

/** A server stream up to the point where it may log in: what was offered, or how it ended. */
export async function approach(
  port: number,
  from: string,
  to: string,
  credentials?: Credentials,
): Promise<{ wire: Wire; said: string }> {
  const wire = await Wire.toServer(port);
  wire.opens(from, to);
  const first = await wire.hears(/<\/stream:features>|<stream:error>.*<\/stream:error>/s);
  if (first.includes("stream:error")) return { wire, said: first };
  await wire.secures(to, credentials);
  wire.opens(from, to);
  const said = await wire.hears(
    /<stream:error>.*<\/stream:stream>|<stream:features\/>|<stream:features>.*<\/stream:features>/s,
  );
  return { wire, said };
}

export const EXTERNAL =
  '<auth xmlns="urn:ietf:params:xml:ns:xmpp-sasl" mechanism="EXTERNAL">=</auth>';

/** A server stream that is logged in, as only the owner of the certificate can have it. */
export async function enter(
  port: number,
  from: string,
  to: string,
  credentials: Credentials,
): Promise<Wire> {
  const { wire, said } = await approach(port, from, to, credentials);
  assert.match(said, /EXTERNAL/);
  wire.says(EXTERNAL);
  await wire.hears(/<success[^>]*>/);
  wire.opens(from, to);
  await wire.hears(/<stream:features/);
  return wire;
}

/** Has openssl make a certificate with these SANs, signed by a CA or by itself. */
export async function forge(
  world: World,
  directory: string,
  names: string,
  ca?: { readonly directory: string },
): Promise<Credentials> {
  const base = join(directory, world.random.uuid());
  const signer =
    ca === undefined
      ? []
      : ["-CA", join(ca.directory, "ca.pem"), "-CAkey", join(ca.directory, "ca-key.pem")];
  const result = await world.processes.run(
    "openssl",
    [
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
      ["-keyout", `${base}.key`, "-out", `${base}.pem`, "-days", "2", "-subj", "/CN=forged"],
      ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", `subjectAltName=${names}`],
      signer,
    ].flat(),
  );
  assert.equal(result.exitCode, 0, result.errorText);
  return readCredentials(world, `${base}.pem`, `${base}.key`);
}

export async function readCredentials(
  world: World,
  certificatePath: string,
  keyPath: string,
): Promise<Credentials> {
  const read = async (path: string): Promise<string> =>
    Buffer.from(await world.files.readFile(path, 65536)).toString("utf8");
  return { cert: await read(certificatePath), key: await read(keyPath) };
}
