import { shortDigest, TesseraError, type BlobReference, type Digest } from "#core";

/** Errors that several files of this room raise. */

export function blobMissing(digest: Digest): TesseraError {
  return new TesseraError("misuse", "repository.blob-missing", `blob ${digest} is not held`, {
    subject: digest,
    remedy: "fetch or add the component again",
  });
}

export function blobCorrupt(digest: Digest, found: string): TesseraError {
  const message = `blob ${shortDigest(digest)} is corrupt: ${found}`;
  return new TesseraError("corrupt", "repository.blob-corrupt", message, {
    subject: digest,
    remedy: "add or fetch the component again; that replaces the blob",
  });
}

export function manifestInvalid(digest: Digest, reason: string, cause?: unknown): TesseraError {
  const message = `manifest ${shortDigest(digest)}: ${reason}`;
  return new TesseraError("corrupt", "repository.manifest-invalid", message, {
    subject: digest,
    remedy: "add the component again, or fetch it from another cloud",
    cause,
  });
}

export function componentUnknown(text: string): TesseraError {
  return new TesseraError("misuse", "repository.component-unknown", `no component "${text}"`, {
    subject: text,
    remedy: 'see "tessera component ls"',
  });
}

export function componentPinned(id: Digest, owners: readonly string[]): TesseraError {
  const message = `component ${shortDigest(id)} is in use by ${owners.join(", ")}`;
  return new TesseraError("misuse", "repository.component-pinned", message, {
    subject: id,
    remedy: "remove the machines that use it first",
  });
}

export function sizeMismatch(blob: BlobReference, sizeBytes: number): TesseraError {
  const message = `blob ${shortDigest(blob.digest)} has ${sizeBytes} bytes, not ${blob.sizeBytes}`;
  return new TesseraError("corrupt", "repository.size-mismatch", message, {
    subject: blob.digest,
    remedy: "fetch it again, from another cloud if it happens again",
  });
}

export function noSpace(blob: BlobReference, detail: string, cause?: unknown): TesseraError {
  const message = `no space for blob ${shortDigest(blob.digest)}: ${detail}`;
  return new TesseraError("environment", "repository.no-space", message, {
    subject: blob.digest,
    remedy: 'free space, for instance with "tessera component gc", and try again',
    cause,
  });
}

export function digestMismatch(blob: BlobReference, digest: Digest): TesseraError {
  const message = `blob ${blob.digest} came out as ${digest}`;
  return new TesseraError("corrupt", "repository.digest-mismatch", message, {
    subject: blob.digest,
    remedy: "fetch it again, from another cloud if it happens again",
  });
}

export function assemblyState(blob: BlobReference, sizeBytes: number): TesseraError {
  const message = `the state of an assembly has ${sizeBytes} bytes, more than 4 MiB`;
  return new TesseraError("misuse", "repository.state-too-large", message, {
    subject: blob.digest,
  });
}

export function ingestClosed(blob: BlobReference, reason: string): TesseraError {
  return new TesseraError("misuse", "repository.ingest-closed", `the ingest ${reason}`, {
    subject: blob.digest,
    remedy: "release it and open another",
  });
}

export function contentUnknown(component: Digest, content: number): TesseraError {
  const message = `component ${shortDigest(component)} has no such bytes of content ${content}`;
  return new TesseraError("misuse", "repository.content-unknown", message, { subject: component });
}
