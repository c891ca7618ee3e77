import { TesseraError } from "#core";

const JID_LENGTH_MAX = 3071;
const DOMAIN =
  /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+$/;
const LOCAL = /^[a-z0-9][a-z0-9._-]{0,63}$/;

/** True for a lower-case ASCII domain of two labels or more: what clouds are named by. */
export function isDomain(text: string): boolean {
  return DOMAIN.test(text);
}

/** True for `local@domain` as agents and rooms are named: lower-case ASCII, without a resource. */
export function isBareJid(text: string): boolean {
  const at = text.indexOf("@");
  return at > 0 && LOCAL.test(text.slice(0, at)) && isDomain(text.slice(at + 1));
}

/** The address without its resource (RFC 7622). */
export function bareOf(jid: string): string {
  const slash = jid.indexOf("/");
  return slash === -1 ? jid : jid.slice(0, slash);
}

/** The part after the first slash; undefined for a bare address. */
export function resourceOf(jid: string): string | undefined {
  const slash = jid.indexOf("/");
  return slash === -1 ? undefined : jid.slice(slash + 1);
}

export function domainOf(jid: string): string {
  const bare = bareOf(jid);
  return bare.slice(bare.indexOf("@") + 1);
}

export function localOf(jid: string): string {
  const bare = bareOf(jid);
  return bare.includes("@") ? bare.slice(0, bare.indexOf("@")) : "";
}

/** @throws `xmpp.jid-invalid` (misuse) */
export function requireBareJid(text: string): string {
  if (text.length <= JID_LENGTH_MAX && isBareJid(text)) return text;
  throw new TesseraError("misuse", "xmpp.jid-invalid", `"${text.slice(0, 80)}" is not an address`, {
    subject: text.slice(0, 80),
    remedy: "write local@domain in lower-case letters, digits, dots and hyphens",
  });
}

/** @throws `xmpp.domain-invalid` (misuse) */
export function requireDomain(text: string): string {
  if (isDomain(text)) return text;
  throw new TesseraError(
    "misuse",
    "xmpp.domain-invalid",
    `"${text.slice(0, 80)}" is not a domain`,
    {
      subject: text.slice(0, 80),
      remedy: "write two or more lower-case labels, for instance alpha.example",
    },
  );
}
