import { createHash, createHmac, pbkdf2, timingSafeEqual } from "node:crypto";
import { TesseraError } from "#core";

const ITERATIONS_MIN = 4096;
const ITERATIONS_MAX = 1_000_000;
const HASH_BYTES = 32;
const GS2_HEADER = "n,,";

function refused(message: string): TesseraError {
  return new TesseraError("peer", "xmpp.login-forged", message, {
    remedy: "check that the address leads to the right server and that the password is its own",
  });
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function stretch(password: string, salt: Uint8Array, iterations: number): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  pbkdf2(password, salt, iterations, HASH_BYTES, "sha256", (error, key) =>
    error === null ? resolve(key) : reject(error),
  );
  return promise;
}

/** `=` and `,` separate fields and are written as `=3D` and `=2C` (RFC 5802, section 5.1). */
function escapeName(name: string): string {
  return name.replaceAll("=", "=3D").replaceAll(",", "=2C");
}

function fieldsOf(message: string): Map<string, string> {
  return new Map(message.split(",").map((field) => [field.slice(0, 2), field.slice(2)]));
}

export interface ScramFinal {
  readonly message: string;
  /** @throws `xmpp.login-forged` unless the server proved that it knows the password's hash. */
  verify(serverFinal: string): void;
}

/**
 * The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), without channel binding: the server is
 * authenticated by its certificate and again by its signature.
 */
export class Scram {
  readonly first: string;
  readonly #bare: string;
  readonly #nonce: string;
  readonly #password: string;

  /** @param nonce printable ASCII without commas. @param password ASCII, so SASLprep is identity. */
  constructor(user: string, password: string, nonce: string) {
    if (!/^[\x20-\x7e]+$/.test(password)) {
      throw new TesseraError("misuse", "xmpp.password-invalid", "the password is not ASCII", {
        remedy: "use a password of printable ASCII characters",
      });
    }
    this.#password = password;
    this.#nonce = nonce;
    this.#bare = `n=${escapeName(user)},r=${nonce}`;
    this.first = GS2_HEADER + this.#bare;
  }

  /** Answers the server's first message. @throws `xmpp.login-forged` */
  async final(serverFirst: string): Promise<ScramFinal> {
    const { nonce, salt, iterations } = this.#challenge(serverFirst);
    const salted = await stretch(this.#password, salt, iterations);
    const withoutProof = `c=${Buffer.from(GS2_HEADER).toString("base64")},r=${nonce}`;
    const exchange = `${this.#bare},${serverFirst},${withoutProof}`;
    const clientKey = hmac(salted, "Client Key");
    const signature = hmac(createHash("sha256").update(clientKey).digest(), exchange);
    const proof = clientKey.map((byte, index) => byte ^ (signature[index] ?? 0));
    const expected = hmac(hmac(salted, "Server Key"), exchange);
    return {
      message: `${withoutProof},p=${Buffer.from(proof).toString("base64")}`,
      verify: (serverFinal) => verifyServer(serverFinal, expected),
    };
  }

  #challenge(serverFirst: string): { nonce: string; salt: Uint8Array; iterations: number } {
    const fields = fieldsOf(serverFirst);
    const nonce = fields.get("r=") ?? "";
    const salt = Buffer.from(fields.get("s=") ?? "", "base64");
    const iterations = Number(fields.get("i="));
    if (!nonce.startsWith(this.#nonce) || nonce.length <= this.#nonce.length) {
      throw refused("the server's nonce does not continue ours");
    }
    if (fields.has("m=")) throw refused("the server demands an unknown extension");
    if (salt.length < 8) throw refused("the server's salt is too short");
    if (!(iterations >= ITERATIONS_MIN && iterations <= ITERATIONS_MAX)) {
      throw refused(`the server asks for ${iterations} iterations`);
    }
    return { nonce, salt, iterations };
  }
}

function verifyServer(serverFinal: string, expected: Buffer): void {
  const given = Buffer.from(fieldsOf(serverFinal).get("v=") ?? "", "base64");
  if (given.length === expected.length && timingSafeEqual(given, expected)) return;
  throw refused("the server did not prove that it knows the account");
}
