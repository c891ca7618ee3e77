/** XML that somebody gave us, as elements: bounded, without entities of its own. */
import { TesseraError } from "#core";
import { SaxesParser } from "saxes";
import { damaged, unsupported } from "../errors.ts";

export interface XmlElement {
  /** Without its prefix. */
  readonly name: string;
  /** By their names without prefixes. */
  readonly attributes: ReadonlyMap<string, string>;
  readonly children: readonly XmlElement[];
  /** Of this element itself, without that of its children. */
  readonly text: string;
}

interface OpenElement extends XmlElement {
  readonly children: XmlElement[];
  text: string;
}

export const XML_BYTES_MAX = 2 ** 20;
const DEPTH_MAX = 64;
const ELEMENTS_MAX = 20_000;

class Reader {
  readonly #what: string;
  readonly #parser = new SaxesParser({ xmlns: true });
  readonly #open: OpenElement[] = [];
  #root: XmlElement | undefined;
  #elements = 0;

  constructor(what: string) {
    this.#what = what;
    this.#parser.on("doctype", () => {
      throw unsupported(what, "a document type declaration", "remove it from the file");
    });
    this.#parser.on("error", (cause) => {
      throw damaged(what, "it is not well-formed XML", cause);
    });
    this.#parser.on("opentag", ({ local, attributes }) => {
      this.#begin(local, new Map(Object.values(attributes).map((a) => [a.local, a.value])));
    });
    this.#parser.on("closetag", () => void this.#open.pop());
    this.#parser.on("text", (text) => this.#text(text));
    this.#parser.on("cdata", (text) => this.#text(text));
  }

  read(text: string): XmlElement {
    this.#parser.write(text).close();
    if (this.#root === undefined) throw damaged(this.#what, "it has no element");
    return this.#root;
  }

  #begin(name: string, attributes: ReadonlyMap<string, string>): void {
    this.#elements += 1;
    if (this.#elements > ELEMENTS_MAX || this.#open.length === DEPTH_MAX) {
      throw damaged(this.#what, "it has more elements, or deeper ones, than such a file needs");
    }
    const element: OpenElement = { name, attributes, children: [], text: "" };
    const parent = this.#open.at(-1);
    if (parent === undefined) this.#root ??= element;
    else parent.children.push(element);
    this.#open.push(element);
  }

  #text(text: string): void {
    const last = this.#open.at(-1);
    if (last !== undefined) last.text += text;
  }
}

/**
 * The root of a document.
 *
 * @param what for messages
 * @throws `import.image-damaged` (corrupt), `import.unsupported` (misuse)
 */
export function parseXml(text: string, what: string): XmlElement {
  if (text.length > XML_BYTES_MAX) throw damaged(what, `it is longer than ${XML_BYTES_MAX} bytes`);
  try {
    return new Reader(what).read(text.replace(/^\uFEFF/, ""));
  } catch (error) {
    if (error instanceof TesseraError) throw error;
    throw damaged(what, "it is not well-formed XML", error);
  }
}

export function childrenOf({ children }: XmlElement, name: string): XmlElement[] {
  return children.filter((child) => child.name === name);
}

export function childOf(element: XmlElement, name: string): XmlElement | undefined {
  return element.children.find((child) => child.name === name);
}

/** Trimmed; empty where there is no such child. */
export function textIn(element: XmlElement, name: string): string {
  return childOf(element, name)?.text.trim() ?? "";
}
