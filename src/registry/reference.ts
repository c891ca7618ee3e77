/** References to what registries hold (OCI distribution specification 1.1, pulling manifests). */
import { isDigest } from "#core";
import { referenceInvalid } from "./errors.ts";
import type { RegistryReference } from "./contract.ts";

const SCHEME = "oci://";
const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::(\d{1,5}))?$/i;
const NAME = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const NAME_LENGTH_MAX = 255;
const TEXT_LENGTH_MAX = 1024;

/**
 * `oci://HOST[:PORT]/NAME[:TAG]` or `…@sha256:DIGEST`.
 *
 * @throws `registry.reference-invalid` (misuse)
 */
export function parseReference(text: string): RegistryReference {
  if (text.length > TEXT_LENGTH_MAX) throw referenceInvalid(text.slice(0, 64), "is too long");
  if (!text.startsWith(SCHEME)) throw referenceInvalid(text, `does not begin with ${SCHEME}`);
  const rest = text.slice(SCHEME.length);
  const slash = rest.indexOf("/");
  if (slash < 1) throw referenceInvalid(text, "names no repository");
  const host = checkedHost(text, rest.slice(0, slash));
  const [path, digest] = splitOnce(rest.slice(slash + 1), "@");
  if (digest !== undefined && !isDigest(digest)) {
    throw referenceInvalid(text, "has no sha256 digest behind the @");
  }
  const [name, tag] = splitOnce(path, ":");
  if (!NAME.test(name) || name.length > NAME_LENGTH_MAX) {
    throw referenceInvalid(text, `has no valid repository name ("${name}")`);
  }
  if (tag !== undefined && !TAG.test(tag)) throw referenceInvalid(text, `has no valid tag`);
  return {
    host,
    name,
    ...(tag === undefined ? {} : { tag }),
    ...(digest === undefined ? {} : { digest }),
  };
}

function checkedHost(text: string, host: string): string {
  const match = HOST.exec(host);
  const port = match?.[1];
  const valid =
    match !== null && (port === undefined || (Number(port) > 0 && Number(port) < 65536));
  if (!valid) throw referenceInvalid(text, `has no valid host ("${host}")`);
  return host.toLowerCase();
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}

export function formatReference({ host, name, tag, digest }: RegistryReference): string {
  const behind = digest === undefined ? (tag === undefined ? "" : `:${tag}`) : `@${digest}`;
  return `${SCHEME}${host}/${name}${behind}`;
}

/**
 * A version as a tag: what its grammar has no place for (`~`, `+`, `:`) becomes `-`. For people and
 * other tools only; who needs exactly one component names its digest.
 */
export function tagOf(version: string): string {
  const tag = version.replaceAll(/[^a-zA-Z0-9._-]/g, "-").replaceAll(/^[.-]+/g, "");
  return tag.slice(0, 128) || "latest";
}

/** True for this host itself, by the name or the address alone. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, "");
  return name === "localhost" || name === "[::1]" || /^127(\.\d{1,3}){3}$/.test(name);
}
