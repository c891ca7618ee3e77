import { SaxesParser, type SaxesTagNS } from "saxes";
import { TesseraError } from "#core";
import type { XmlElement, XmlNode } from "./element.ts";
import { NS } from "./namespaces.ts";

export interface StreamLimits {
  /** Largest stanza in UTF-16 code units, markup included. */
  readonly stanzaLengthMax: number;
  /** Deepest nesting below the stream element. */
  readonly depthMax: number;
}

export const STREAM_LIMITS: StreamLimits = { stanzaLengthMax: 512 * 1024, depthMax: 64 };

export interface StreamEvents {
  onOpen(attributes: Readonly<Record<string, string>>): void;
  /** A complete child of the stream element. */
  onStanza(element: XmlElement): void;
  onEnd(): void;
}

interface OpenElement {
  readonly name: string;
  readonly namespace: string;
  readonly attributes: Record<string, string>;
  readonly children: XmlNode[];
}

function broken(code: string, message: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", code, message, { cause });
}

function attributesOf(tag: SaxesTagNS): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const { name, prefix, value } of Object.values(tag.attributes)) {
    if (name === "__proto__") continue;
    if (prefix === "" || name === "xml:lang") attributes[name] = value;
  }
  return attributes;
}

/**
 * Reads one XMPP stream (RFC 6120, section 4) from bytes. It keeps its own stack, so nesting costs
 * no call depth, and refuses what section 11.1 forbids: document types, comments, processing
 * instructions and entities other than the five predefined ones.
 */
export class StreamParser {
  readonly #limits: StreamLimits;
  readonly #events: StreamEvents;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  readonly #saxes = new SaxesParser({ xmlns: true });
  readonly #stack: OpenElement[] = [];
  #opened = false;
  #stanzaStart = 0;

  constructor(events: StreamEvents, limits: StreamLimits = STREAM_LIMITS) {
    this.#events = events;
    this.#limits = limits;
    const refuse = (what: string) => () => {
      throw broken("xmpp.xml-restricted", `the stream holds a ${what}`);
    };
    this.#saxes.on("doctype", refuse("document type declaration"));
    this.#saxes.on("comment", refuse("comment"));
    this.#saxes.on("processinginstruction", refuse("processing instruction"));
    this.#saxes.on("error", (cause) => {
      throw broken("xmpp.xml-invalid", "the stream is not well-formed XML", cause);
    });
    this.#saxes.on("opentag", (tag) => this.#open(tag));
    this.#saxes.on("closetag", () => this.#close());
    this.#saxes.on("text", (text) => this.#text(text));
    this.#saxes.on("cdata", (text) => this.#text(text));
  }

  /** @throws `xmpp.xml-invalid`, `xmpp.xml-restricted`, `xmpp.stanza-too-large`, `xmpp.too-deep` */
  write(bytes: Uint8Array): void {
    this.#saxes.write(this.#decode(bytes));
    this.#checkLength();
  }

  #decode(bytes: Uint8Array): string {
    try {
      return this.#decoder.decode(bytes, { stream: true });
    } catch (cause) {
      throw broken("xmpp.xml-invalid", "the stream is not UTF-8", cause);
    }
  }

  #checkLength(): void {
    if (this.#saxes.position - this.#stanzaStart <= this.#limits.stanzaLengthMax) return;
    const { stanzaLengthMax } = this.#limits;
    throw broken("xmpp.stanza-too-large", `a stanza is longer than ${stanzaLengthMax}`);
  }

  #open(tag: SaxesTagNS): void {
    const attributes = attributesOf(tag);
    if (!this.#opened) {
      this.#openStream(tag, attributes);
      return;
    }
    if (this.#stack.length >= this.#limits.depthMax) {
      throw broken("xmpp.too-deep", `a stanza nests deeper than ${this.#limits.depthMax}`);
    }
    this.#stack.push({ name: tag.local, namespace: tag.uri, attributes, children: [] });
  }

  #openStream(tag: SaxesTagNS, attributes: Record<string, string>): void {
    if (tag.local !== "stream" || tag.uri !== NS.streams) {
      throw broken("xmpp.xml-invalid", "the stream does not begin with a stream element");
    }
    this.#opened = true;
    this.#stanzaStart = this.#saxes.position;
    this.#events.onOpen(attributes);
  }

  #close(): void {
    const element = this.#stack.pop();
    if (element === undefined) {
      this.#events.onEnd();
      return;
    }
    const parent = this.#stack.at(-1);
    if (parent !== undefined) {
      parent.children.push(element);
      return;
    }
    this.#checkLength();
    this.#stanzaStart = this.#saxes.position;
    this.#events.onStanza(element);
  }

  #text(text: string): void {
    const parent = this.#stack.at(-1);
    if (parent !== undefined) {
      parent.children.push(text);
      return;
    }
    if (text.trim() !== "") throw broken("xmpp.xml-invalid", "text between stanzas");
    this.#stanzaStart = this.#saxes.position;
  }
}
