import { X509Certificate, createHash, createPrivateKey } from "node:crypto";
import { TesseraError, type Digest, type World } from "#core";

const PEM_BYTES_MAX = 64 * 1024;
const DAYS = 3650;

/** The key and self-signed certificate that a cloud shows on the data plane. */
export interface DataIdentity {
  /** PEM. */
  readonly key: string;
  /** PEM. */
  readonly certificatePem: string;
  /** SHA-256 of the DER certificate: what the negotiation signs. */
  readonly certificate: Digest;
}

/** The fingerprint of a DER certificate. */
export function fingerprintOf(der: Uint8Array): Digest {
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}

/**
 * Loads `data-key.pem` and `data-certificate.pem` from the directory; makes them when the
 * certificate is missing (EC P-256, ten years, readable by the owner only). The certificate is
 * written last, so one that is there has its key.
 *
 * @throws `transfer.identity-invalid` (corrupt), `transfer.identity-failed` (environment)
 */
export async function loadOrCreateDataIdentity(
  world: World,
  directory: string,
): Promise<DataIdentity> {
  const keyPath = `${directory}/data-key.pem`;
  const certificatePath = `${directory}/data-certificate.pem`;
  await world.files.makeDirectory(directory, 0o700);
  if ((await world.files.status(certificatePath)) === undefined) {
    await createIdentity(world, keyPath, certificatePath);
  }
  const key = await readText(world, keyPath);
  const certificatePem = await readText(world, certificatePath);
  return { key, certificatePem, certificate: checkPair(key, certificatePem, certificatePath) };
}

async function readText(world: World, path: string): Promise<string> {
  return Buffer.from(await world.files.readFile(path, PEM_BYTES_MAX)).toString("utf8");
}

async function createIdentity(world: World, keyPath: string, certificatePath: string) {
  const curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
  await world.files.writeFileAtomic(keyPath, await openssl(world, ["genpkey", ...curve]), 0o600);
  const serial = Buffer.from(world.random.bytes(15)).toString("hex");
  const request = ["req", "-x509", "-key", keyPath, "-subj", "/CN=tessera data plane"];
  const validity = ["-days", String(DAYS), "-sha256", "-set_serial", `0x01${serial}`];
  const certificate = await openssl(world, [...request, ...validity]);
  await world.files.writeFileAtomic(certificatePath, certificate, 0o600);
}

async function openssl(world: World, args: readonly string[]): Promise<Uint8Array> {
  const result = await world.processes.run("openssl", args, { timeout_ms: 60_000 });
  if (result.exitCode === 0) return result.output;
  const message = `openssl ${args[0] ?? ""} failed: ${result.errorText.trim()}`;
  throw new TesseraError("environment", "transfer.identity-failed", message, {
    subject: "openssl",
    remedy: "check that OpenSSL 3 is installed",
  });
}

function checkPair(key: string, certificatePem: string, path: string): Digest {
  try {
    const certificate = new X509Certificate(certificatePem);
    if (certificate.checkPrivateKey(createPrivateKey(key))) return fingerprintOf(certificate.raw);
  } catch (cause) {
    throw identityInvalid(path, cause);
  }
  throw identityInvalid(path);
}

function identityInvalid(path: string, cause?: unknown): TesseraError {
  const message = "the data plane's key and certificate cannot be read or do not fit";
  return new TesseraError("corrupt", "transfer.identity-invalid", message, {
    subject: path,
    remedy: "remove both files while no migration runs; new ones are made at the next start",
    cause,
  });
}
