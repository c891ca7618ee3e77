/** Credentials as docker, podman and skopeo keep them: `config.json` with `auths`. */
import { TesseraError } from "#core";
import * as z from "zod";
import type { Credentials } from "./contract.ts";

export const AUTH_FILE_BYTES_MAX = 2 ** 20;

const text = z.string().max(65_536);
const shape = z.looseObject({
  auths: z
    .record(
      z.string().max(1024),
      z.looseObject({
        auth: text.exactOptional(),
        username: text.exactOptional(),
        password: text.exactOptional(),
      }),
    )
    .exactOptional(),
});

/**
 * The credentials for a host in a `config.json`; undefined where it has none. The entry of the
 * longest prefix counts (`HOST/PATH` before `HOST`), as for podman and skopeo. Credential helpers
 * are programs of others and are not run.
 *
 * @throws `registry.auth-file-invalid` (misuse)
 */
export function credentialsIn(
  content: string,
  { host, name }: { readonly host: string; readonly name: string },
): Credentials | undefined {
  const { auths = {} } = decode(content);
  const places = prefixesOf(`${host}/${name}`);
  const entries = new Map(Object.entries(auths).map(([key, value]) => [bareKey(key), value]));
  const found = places.map((place) => entries.get(place)).find((entry) => entry !== undefined);
  if (found === undefined) return undefined;
  const { auth, username, password } = found;
  if (auth !== undefined && auth !== "") return fromAuth(auth);
  return username === undefined || password === undefined ? undefined : { username, password };
}

function decode(content: string): z.output<typeof shape> {
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw invalid("is not JSON", cause);
  }
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  throw invalid(`: ${result.error.issues[0]?.path.join(".") ?? ""} is not as docker writes it`);
}

/** Docker also writes keys such as `https://index.docker.io/v1/`. */
function bareKey(key: string): string {
  return key.replace(/^https?:\/\//, "").replace(/\/(v[12]\/?)?$/, "");
}

/** `host/a/b`, `host/a`, `host`. */
function prefixesOf(place: string): string[] {
  const parts = place.split("/");
  return parts.map((_, index) => parts.slice(0, parts.length - index).join("/"));
}

function fromAuth(auth: string): Credentials {
  const decoded = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "");
  const colon = decoded.indexOf(":");
  if (colon < 1) throw invalid(`has an "auth" that is no user and password`);
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** The content is secret: it is never quoted. */
function invalid(what: string, cause?: unknown): TesseraError {
  const message = `the registry credentials file ${what}`;
  return new TesseraError("misuse", "registry.auth-file-invalid", message, {
    remedy: 'write {"auths":{"HOST":{"auth":"base64 of user:password"}}}, as "skopeo login" does',
    cause,
  });
}
