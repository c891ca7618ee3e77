/** `WWW-Authenticate` (RFC 9110 section 11.6.1) as registries use it. */

export type Challenge =
  | { readonly scheme: "basic" }
  | {
      readonly scheme: "bearer";
      readonly realm: string;
      readonly service?: string;
      readonly scope?: string;
    };

const HEADER_LENGTH_MAX = 8192;

/** The first challenge that we can answer; undefined where there is none. */
export function parseChallenge(header: string): Challenge | undefined {
  if (header.length > HEADER_LENGTH_MAX) return undefined;
  const bearer = /(?:^|,)\s*bearer\s+/i.exec(header);
  if (bearer !== null) {
    const parameters = parametersOf(header.slice(bearer.index + bearer[0].length));
    const realm = parameters.get("realm");
    if (realm === undefined) return undefined;
    const service = parameters.get("service");
    const scope = parameters.get("scope");
    return {
      scheme: "bearer",
      realm,
      ...(service === undefined ? {} : { service }),
      ...(scope === undefined ? {} : { scope }),
    };
  }
  return /(?:^|,)\s*basic(?:\s|$)/i.test(header) ? { scheme: "basic" } : undefined;
}

/** `key="value"` or `key=token`, separated by commas, up to what is not of that form. */
function parametersOf(text: string): Map<string, string> {
  const found = new Map<string, string>();
  const parameter = /\s*([a-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)/iy;
  for (let match = parameter.exec(text); match !== null; match = parameter.exec(text)) {
    const value = match[2]?.replaceAll(/\\(.)/g, "$1") ?? match[3] ?? "";
    const key = (match[1] ?? "").toLowerCase();
    if (!found.has(key)) found.set(key, value);
  }
  return found;
}
