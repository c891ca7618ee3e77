import { TesseraError } from "#core";
import { NS } from "./namespaces.ts";

export type XmlNode = XmlElement | string;

/**
 * One XML element. `attributes` holds those without a prefix and `xml:lang`; others carry nothing
 * that XMPP's core or our protocols use and are dropped while reading.
 */
export interface XmlElement {
  readonly name: string;
  readonly namespace: string;
  readonly attributes: Readonly<Record<string, string>>;
  readonly children: readonly XmlNode[];
}

/** Builds an element; absent attribute values and children are left out. */
export function xml(
  namespace: string,
  name: string,
  attributes: Readonly<Record<string, string | undefined>> = {},
  ...children: readonly (XmlNode | undefined)[]
): XmlElement {
  const given: Record<string, string> = {};
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) given[key] = value;
  }
  return {
    name,
    namespace,
    attributes: given,
    children: children.filter((child) => child !== undefined),
  };
}

/** A stanza: an element of the client's namespace. */
export function stanza(
  name: "iq" | "presence" | "message",
  attributes: Readonly<Record<string, string | undefined>>,
  ...children: readonly (XmlElement | undefined)[]
): XmlElement {
  return xml(NS.client, name, attributes, ...children);
}

export function childrenOf(parent: XmlElement): XmlElement[] {
  return parent.children.filter((child) => typeof child !== "string");
}

/** The first child of this name and namespace. */
export function childOf(
  parent: XmlElement | undefined,
  namespace: string,
  name: string,
): XmlElement | undefined {
  if (parent === undefined) return undefined;
  return childrenOf(parent).find((child) => child.name === name && child.namespace === namespace);
}

/** The text directly inside an element. */
export function textOf(element: XmlElement): string {
  return element.children.filter((child) => typeof child === "string").join("");
}

// Control characters and the two non-characters that XML 1.0 cannot carry, even escaped.
// eslint-disable-next-line no-control-regex
const FORBIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/;
const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
  "\t": "&#9;",
  "\n": "&#10;",
  "\r": "&#13;",
};

function checked(text: string): string {
  if (!FORBIDDEN.test(text) && text.isWellFormed()) return text;
  throw new TesseraError("misuse", "xmpp.text-invalid", "the text holds what XML cannot carry", {
    remedy: "leave out control characters and lone surrogates",
  });
}

function escapeText(text: string): string {
  return checked(text).replaceAll(/[&<>\r]/g, (c) => ESCAPES[c] ?? c);
}

function escapeAttribute(text: string): string {
  return checked(text).replaceAll(/[&<>"'\t\n\r]/g, (c) => ESCAPES[c] ?? c);
}

/**
 * Writes an element inside a parent of namespace `outer`. Recursion is safe: what we build is
 * shallow, and what was read is capped in depth.
 */
export function serialise(element: XmlElement, outer: string = NS.client): string {
  const { name, namespace, attributes, children } = element;
  const declared = namespace === outer ? "" : ` xmlns="${escapeAttribute(namespace)}"`;
  const given = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${escapeAttribute(value)}"`)
    .join("");
  if (children.length === 0) return `<${name}${declared}${given}/>`;
  const inside = children
    .map((child) => (typeof child === "string" ? escapeText(child) : serialise(child, namespace)))
    .join("");
  return `<${name}${declared}${given}>${inside}</${name}>`;
}
