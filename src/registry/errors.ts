import { TesseraError, type Digest } from "#core";

/** Errors that several files of this room raise. */

export function referenceInvalid(text: string, reason: string): TesseraError {
  return new TesseraError("misuse", "registry.reference-invalid", `"${text}" ${reason}`, {
    subject: text,
    remedy: "write oci://HOST[:PORT]/NAME[:TAG] or oci://HOST[:PORT]/NAME@sha256:DIGEST",
  });
}

/** The registry broke the distribution protocol. */
export function protocolBroken(host: string, what: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "registry.protocol", `registry ${host} ${what}`, {
    subject: host,
    remedy: "ask who runs the registry; what was received is not used",
    cause,
  });
}

/** Worth another attempt: the registry is away, overloaded, or cut the connection. */
export function unreachable(host: string, what: string, cause?: unknown): TesseraError {
  return new TesseraError("environment", "registry.unreachable", `registry ${host}: ${what}`, {
    subject: host,
    remedy: "see that the registry runs and can be reached, then repeat; it goes on where it was",
    cause,
  });
}

export function accessRefused(host: string, what: string): TesseraError {
  return new TesseraError("misuse", "registry.access-refused", `registry ${host} ${what}`, {
    subject: host,
    remedy: "give --username and --password-file, or log in with a tool that writes config.json",
  });
}

export function notThere(host: string, what: string): TesseraError {
  return new TesseraError("misuse", "registry.manifest-not-found", `${host} has no ${what}`, {
    subject: what,
    remedy: "see the tags that the registry has, for instance with skopeo list-tags",
  });
}

/** What came is not what its digest says. */
export function corrupt(host: string, wanted: string, found: Digest): TesseraError {
  const message = `registry ${host} sends ${found} as ${wanted.slice(0, 128)}`;
  return new TesseraError("corrupt", "registry.manifest-corrupt", message, {
    subject: wanted.slice(0, 128),
    remedy: "ask who runs the registry; what was received is not used",
  });
}

export function noCatalogue(host: string): TesseraError {
  const message = `registry ${host} does not tell what repositories it has`;
  return new TesseraError("misuse", "registry.catalogue-missing", message, {
    subject: host,
    remedy: "ask for components by name: those it tells",
  });
}
