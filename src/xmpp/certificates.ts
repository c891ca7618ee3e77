import { join } from "node:path";
import { TesseraError, type World } from "#core";
import { requireDomain } from "./jid.ts";

/** A cloud's authority and server certificate, as files of mode 0600 (keys) and 0644. */
export interface Certificates {
  readonly domain: string;
  /** PEM of the authority, name-constrained to the domain. */
  readonly ca: string;
  readonly certificatePath: string;
  readonly keyPath: string;
}

const PEM_BYTES_MAX = 64 * 1024;
const CA_DAYS = 3650;
const SERVER_DAYS = 397;
const RENEW_SECONDS = 60 * 24 * 3600;
const KEY_TYPE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** The domain of a cloud's rooms (XEP-0045). */
export function roomsDomainOf(domain: string): string {
  return `rooms.${domain}`;
}

/**
 * Makes, or loads and renews, a cloud's certificates in `directory`: an authority that can vouch
 * for nothing but the domain and what is below it (RFC 5280, 4.2.1.10, critical), and a server
 * certificate for the domain and its rooms. The authority lives ten years, as peers hold it; the
 * server certificate is renewed 60 days before its end.
 *
 * @throws `xmpp.domain-invalid`, `xmpp.openssl-failed`
 */
export async function createCertificates(
  world: World,
  directory: string,
  domain: string,
): Promise<Certificates> {
  requireDomain(domain);
  await world.files.makeDirectory(directory, 0o700);
  const caPath = join(directory, "ca.pem");
  const caKeyPath = join(directory, "ca-key.pem");
  const certificatePath = join(directory, "server.pem");
  const keyPath = join(directory, "server-key.pem");
  if ((await world.files.status(caPath)) === undefined) {
    await issue(world, caPath, caKeyPath, caArguments(domain));
  }
  if (!(await valid(world, certificatePath))) {
    const args = serverArguments(domain, caPath, caKeyPath);
    await issue(world, certificatePath, keyPath, args);
  }
  const ca = Buffer.from(await world.files.readFile(caPath, PEM_BYTES_MAX)).toString("utf8");
  await requireConstrainedCa(world, ca, domain);
  return { domain, ca, certificatePath, keyPath };
}

function caArguments(domain: string): string[] {
  return [
    ["-days", String(CA_DAYS), "-subj", `/CN=Tessera CA of ${domain.slice(0, 40)}`],
    ["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"],
    ["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
    ["-addext", `nameConstraints=critical,permitted;DNS:${domain}`],
  ].flat();
}

function serverArguments(domain: string, caPath: string, caKeyPath: string): string[] {
  const names = [domain, roomsDomainOf(domain)].map((name) => `DNS:${name}`).join(",");
  return [
    ["-CA", caPath, "-CAkey", caKeyPath, "-days", String(SERVER_DAYS)],
    ["-subj", "/CN=Tessera XMPP server"],
    ["-addext", "basicConstraints=critical,CA:FALSE"],
    ["-addext", "keyUsage=critical,digitalSignature"],
    ["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
    ["-addext", `subjectAltName=${names}`],
  ].flat();
}

/** The certificate is put in place last: while it is missing, the pair is made anew. */
async function issue(
  world: World,
  certificatePath: string,
  keyPath: string,
  args: readonly string[],
): Promise<void> {
  const [newKey, newCertificate] = [`${keyPath}.new`, `${certificatePath}.new`];
  const outputs = ["-keyout", newKey, "-out", newCertificate];
  await openssl(world, ["req", "-x509", "-sha256", ...KEY_TYPE, ...outputs, ...args]);
  await world.files.remove(certificatePath);
  await world.files.rename(newKey, keyPath);
  await world.files.rename(newCertificate, certificatePath);
}

async function valid(world: World, path: string): Promise<boolean> {
  if ((await world.files.status(path)) === undefined) return false;
  const args = ["x509", "-in", path, "-noout", "-checkend", String(RENEW_SECONDS)];
  return (await world.processes.run("openssl", args)).exitCode === 0;
}

async function openssl(world: World, args: readonly string[], input?: string): Promise<string> {
  const options = input === undefined ? {} : { input };
  const result = await world.processes.run("openssl", args, options);
  if (result.exitCode === 0) return Buffer.from(result.output).toString("utf8");
  throw new TesseraError("environment", "xmpp.openssl-failed", "openssl failed", {
    subject: args[0] ?? "openssl",
    remedy: "look at the cause; OpenSSL 3 is needed",
    cause: new Error(result.errorText),
  });
}

/**
 * Checks that a peer's authority can vouch for exactly `domain` and what is below it, so that
 * trusting it adds no power over anybody else: one certificate, a CA without sub-authorities, with
 * a critical constraint that permits this one DNS name and nothing besides.
 *
 * @returns the certificate in canonical PEM
 * @throws `xmpp.ca-unconstrained`, `xmpp.domain-invalid`
 */
export async function requireConstrainedCa(
  world: World,
  pem: string,
  domain: string,
): Promise<string> {
  requireDomain(domain);
  if (pem.length > PEM_BYTES_MAX || pem.split("-----BEGIN").length !== 2) {
    throw unconstrained(domain, "it is not one PEM certificate");
  }
  const args = ["x509", "-outform", "PEM", "-text", "-certopt", "no_pubkey,no_sigdump"];
  const text = await openssl(world, args, pem).catch((cause: unknown) => {
    throw unconstrained(domain, "it cannot be read", cause);
  });
  checkExtensions(text, domain);
  return text.slice(text.indexOf("-----BEGIN"));
}

/** The lines under an extension's heading in what `openssl x509 -text` prints. */
function extensionLines(text: string, heading: string): string[] {
  const lines = text.split("\n");
  const start = lines.findIndex((line) => line.trim() === heading);
  if (start === -1) return [];
  const depth = indentOf(lines[start] ?? "");
  const rest = lines.slice(start + 1);
  const end = rest.findIndex((line) => indentOf(line) <= depth);
  return rest.slice(0, end === -1 ? rest.length : end).map((line) => line.trim());
}

function indentOf(line: string): number {
  return line.length - line.trimStart().length;
}

function checkExtensions(text: string, domain: string): void {
  const basic = extensionLines(text, "X509v3 Basic Constraints: critical").join("|");
  if (basic !== "CA:TRUE, pathlen:0") {
    throw unconstrained(domain, "it is no CA, or may have sub-authorities");
  }
  const names = extensionLines(text, "X509v3 Name Constraints: critical").join("|");
  if (names !== `Permitted:|DNS:${domain}`) {
    throw unconstrained(domain, "its critical name constraint is not exactly this domain");
  }
}

function unconstrained(domain: string, reason: string, cause?: unknown): TesseraError {
  const message = `the authority given for ${domain} is not trusted: ${reason}`;
  return new TesseraError("misuse", "xmpp.ca-unconstrained", message, {
    subject: domain,
    remedy: "ask that cloud for its card again",
    cause,
  });
}
