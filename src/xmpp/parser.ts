import { SaxesParser, type SaxesTagNS } from "saxes";
import { TesseraError } from "#core";
import type { XmlElement, XmlNode } from "./element.ts";
import { NS } from "./namespaces.ts";

/**
 * Up to `…Max`, a stanza is delivered; above, it is read to its end and dropped, as a peer may have
 * sent it through an honest server; above `…Fatal`, the stream ends, as reading on costs too much.
 */
export interface StreamLimits {
  /** Length of a stanza in UTF-16 code units, markup included. */
  readonly stanzaLengthMax: number;
  readonly stanzaLengthFatal: number;
  /** Nesting below the stream element. */
  readonly depthMax: number;
  readonly depthFatal: number;
}

export const STREAM_LIMITS: StreamLimits = {
  stanzaLengthMax: 512 * 1024,
  // A server may write one character as six when it escapes.
  stanzaLengthFatal: 4 * 1024 * 1024,
  depthMax: 64,
  depthFatal: 1024,
};

export interface StreamEvents {
  onOpen(attributes: Readonly<Record<string, string>>): void;
  /** A complete child of the stream element. */
  onStanza(element: XmlElement): void;
  /** A stanza was above a limit. */
  onDropped(): void;
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

function refusing(what: string): () => never {
  return () => {
    throw broken("xmpp.xml-restricted", `the stream holds a ${what}`);
  };
}

function attributesOf(tag: SaxesTagNS): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const { name, prefix, value } of Object.values(tag.attributes)) {
    if (name === "__proto__" || name === "xmlns") continue;
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
  #depth = 0;
  #dropping = false;
  #stanzaStart = 0;

  constructor(events: StreamEvents, limits: StreamLimits = STREAM_LIMITS) {
    this.#events = events;
    this.#limits = limits;
    this.#saxes.on("doctype", refusing("document type declaration"));
    this.#saxes.on("comment", refusing("comment"));
    this.#saxes.on("processinginstruction", refusing("processing instruction"));
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

  /** Length of the stanza that is being read. */
  #length(): number {
    return this.#saxes.position - this.#stanzaStart;
  }

  #checkLength(): void {
    const { stanzaLengthFatal, stanzaLengthMax } = this.#limits;
    if (this.#length() > stanzaLengthFatal) {
      throw broken("xmpp.stanza-too-large", `a stanza is longer than ${stanzaLengthFatal}`);
    }
    if (this.#length() > stanzaLengthMax) this.#drop();
  }

  /** Forgets the stanza that is being read, and keeps only count of its depth. */
  #drop(): void {
    this.#dropping = true;
    for (const element of this.#stack) element.children.length = 0;
  }

  #open(tag: SaxesTagNS): void {
    const attributes = attributesOf(tag);
    if (!this.#opened) {
      this.#openStream(tag, attributes);
      return;
    }
    const { depthMax, depthFatal } = this.#limits;
    this.#depth += 1;
    if (this.#depth > depthFatal) {
      throw broken("xmpp.too-deep", `a stanza nests deeper than ${depthFatal}`);
    }
    if (this.#depth > depthMax) this.#drop();
    if (this.#dropping) return;
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
    if (this.#depth === 0) {
      this.#events.onEnd();
      return;
    }
    this.#depth -= 1;
    if (this.#depth === 0) {
      this.#finish();
      return;
    }
    if (this.#dropping) return;
    const element = this.#stack.pop();
    if (element !== undefined) this.#stack.at(-1)?.children.push(element);
  }

  #finish(): void {
    this.#checkLength();
    const element = this.#stack.pop();
    const dropped = this.#dropping;
    this.#stack.length = 0;
    this.#dropping = false;
    this.#stanzaStart = this.#saxes.position;
    if (dropped || element === undefined) this.#events.onDropped();
    else this.#events.onStanza(element);
  }

  #text(text: string): void {
    if (this.#depth > 0) {
      if (!this.#dropping) this.#stack.at(-1)?.children.push(text);
      return;
    }
    if (text.trim() !== "") throw broken("xmpp.xml-invalid", "text between stanzas");
    this.#stanzaStart = this.#saxes.position;
  }
}
