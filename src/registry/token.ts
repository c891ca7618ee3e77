/** Bearer tokens (distribution's token authentication specification). */
import * as z from "zod";
import { accessRefused, protocolBroken, unreachable } from "./errors.ts";
import type { Challenge } from "./challenge.ts";
import type { Credentials } from "./contract.ts";
import type { Wire } from "./wire.ts";

const TOKEN_BYTES_MAX = 64 * 1024;

const shape = z
  .object({ token: z.string().exactOptional(), access_token: z.string().exactOptional() })
  .transform(({ token, access_token }) => token ?? access_token ?? "")
  .refine((token) => /^[\x21-\x7e]+$/.test(token));

/**
 * Asks where the challenge says. User and password go there only over TLS, or to the very host
 * that we speak to without TLS anyhow.
 *
 * @param registry origin of the registry
 * @throws `registry.access-refused` (misuse), `registry.protocol` (peer)
 */
export async function fetchToken(
  wire: Wire,
  registry: URL,
  challenge: Extract<Challenge, { scheme: "bearer" }>,
  { scope, credentials }: { readonly scope: string; readonly credentials?: Credentials },
): Promise<string> {
  const url = realmOf(registry, challenge.realm);
  if (challenge.service !== undefined) url.searchParams.set("service", challenge.service);
  url.searchParams.set("scope", scope);
  const headers = credentials === undefined ? {} : { authorization: basic(credentials) };
  const answer = await wire.send({ method: "GET", url, headers });
  if (answer.status === 200) return decode(url, await answer.text(TOKEN_BYTES_MAX));
  answer.discard();
  if (answer.status === 401 || answer.status === 403) {
    throw accessRefused(registry.host, `gives no token: ${url.host} says ${answer.status}`);
  }
  if (answer.status >= 500) throw unreachable(url.host, `no token (status ${answer.status})`);
  throw protocolBroken(url.host, `answers ${answer.status} when asked for a token`);
}

function realmOf(registry: URL, realm: string): URL {
  const url = URL.canParse(realm) ? new URL(realm) : undefined;
  const safe = url?.protocol === "https:" && registry.protocol === "https:";
  const same = url?.origin === registry.origin;
  if (url !== undefined && url.username === "" && (safe || same)) return url;
  throw protocolBroken(registry.host, "sends for a token where we do not go");
}

function decode(url: URL, text: string): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw protocolBroken(url.host, "gives a token that is not JSON", cause);
  }
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  throw protocolBroken(url.host, "gives no token");
}

export function basic({ username, password }: Credentials): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}
