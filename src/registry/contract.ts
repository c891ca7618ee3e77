import type { Component, Digest } from "#core";

/** Where something lies in a registry. */
export interface RegistryReference {
  /** Host with port where one is given, as in `oci://HOST[:PORT]/…`; IPv6 in brackets. */
  readonly host: string;
  /** The repository within the registry, for instance `cloud/program/nginx`. */
  readonly name: string;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** User and password, as Basic authentication has them. */
export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/** How to reach one registry. */
export interface RegistryAccess {
  readonly credentials?: Credentials;
  /** PEM of the authority that signs the registry's certificate, instead of the public ones. */
  readonly ca?: string;
  /** HTTP without TLS although the registry is not on this host. */
  readonly plainHttp?: boolean;
}

export interface RegistryOptions {
  readonly signal?: AbortSignal;
  /** A connection on which nothing comes for so long is given up; default 60 s. */
  readonly idle_ms?: number;
  /** Attempts without any progress before giving up; default 5. */
  readonly attemptsMax?: number;
}

export interface RegistryProgress {
  readonly blob: Digest;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface CarryOptions extends RegistryOptions {
  readonly onProgress?: (progress: RegistryProgress) => void;
}

export interface Carried {
  readonly component: Component;
  /** Digest and place under which the registry has it. */
  readonly reference: string;
  /** Bytes of blobs that moved; what was there already is not among them. */
  readonly movedBytes: number;
}
