import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  type KeyObject,
} from "node:crypto";
import { TesseraError, type Digest, type World } from "#core";
import type { AgentKey } from "./contract.ts";

const FILE_BYTES_MAX = 16 * 1024;
/** Length of an Ed25519 public key as SPKI DER (RFC 8410), in base64. */
const PUBLIC_KEY_LENGTH = 60;

/**
 * The agent's Ed25519 key: PKCS8 PEM in a file of mode 0600, made when there is none.
 *
 * @throws `federation.key-invalid` and those of the file system
 */
export async function loadOrCreateAgentKey(world: World, path: string): Promise<AgentKey> {
  if ((await world.files.status(path)) !== undefined) return agentKey(await loadKey(world, path));
  const { privateKey } = generateKeyPairSync("ed25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" });
  await world.files.writeFileAtomic(path, pem, 0o600);
  return agentKey(privateKey);
}

/** A key that is kept nowhere, for simulation. */
export function temporaryAgentKey(): AgentKey {
  return agentKey(generateKeyPairSync("ed25519").privateKey);
}

async function loadKey(world: World, path: string): Promise<KeyObject> {
  const pem = Buffer.from(await world.files.readFile(path, FILE_BYTES_MAX));
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === "ed25519") return key;
    throw new TypeError(`the key is of type ${key.asymmetricKeyType}`);
  } catch (cause) {
    throw new TesseraError("corrupt", "federation.key-invalid", `${path} is no Ed25519 key`, {
      subject: path,
      remedy: "restore the file from a backup; a new key needs new cards at every peer",
      cause,
    });
  }
}

function agentKey(privateKey: KeyObject): AgentKey {
  const der = createPublicKey(privateKey).export({ type: "spki", format: "der" });
  return {
    publicKey: der.toString("base64"),
    sign: (bytes) => sign(null, bytes, privateKey).toString("base64"),
  };
}

function publicKeyOf(base64: string): KeyObject | undefined {
  if (base64.length !== PUBLIC_KEY_LENGTH) return undefined;
  try {
    const key = createPublicKey({
      key: Buffer.from(base64, "base64"),
      format: "der",
      type: "spki",
    });
    return key.asymmetricKeyType === "ed25519" ? key : undefined;
  } catch {
    return undefined;
  }
}

/** True for the SPKI DER of an Ed25519 key in base64. */
export function isPublicKey(base64: string): boolean {
  return publicKeyOf(base64) !== undefined;
}

/** Verifies an Ed25519 signature (RFC 8032). False for anything malformed. */
export function verifySignature(publicKey: string, bytes: Uint8Array, signature: string): boolean {
  const key = publicKeyOf(publicKey);
  return key !== undefined && verify(null, bytes, key, Buffer.from(signature, "base64"));
}

/** The sha256 of a public key's DER. */
export function fingerprintOf(publicKey: string): Digest {
  const der = Buffer.from(publicKey, "base64");
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}
