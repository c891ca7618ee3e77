import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { serialise, xml, type XmlElement, type XmlNode } from "./element.ts";
import { StreamParser, type StreamLimits } from "./parser.ts";

const OPEN =
  '<stream:stream xmlns="jabber:client" xmlns:stream="http://etherx.jabber.org/streams">';

interface Read {
  readonly stanzas: XmlElement[];
  dropped: number;
  ended: boolean;
}

function read(chunks: readonly Uint8Array[], limits?: StreamLimits): Read {
  const result: Read = { stanzas: [], dropped: 0, ended: false };
  const parser = new StreamParser(
    {
      onOpen: () => {},
      onStanza: (element) => result.stanzas.push(element),
      onDropped: () => {
        result.dropped += 1;
      },
      onEnd: () => {
        result.ended = true;
      },
    },
    limits,
  );
  for (const chunk of chunks) parser.write(chunk);
  return result;
}

const readText = (text: string, limits?: StreamLimits): Read =>
  read([Buffer.from(OPEN + text)], limits);

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/).filter((text) => text !== "xmlns");
const carried = fc
  .string({ unit: "grapheme", maxLength: 40 })
  // eslint-disable-next-line no-control-regex
  .filter((text) => text.isWellFormed() && !/[\u0000-\u001f\ufffe\uffff]/.test(text));
const { element } = fc.letrec<{ element: XmlElement; node: XmlNode }>((tie) => ({
  element: fc
    .tuple(
      name,
      fc.constantFrom("jabber:client", "urn:a", "urn:b"),
      fc.dictionary(name, carried, { maxKeys: 3 }),
      fc.array(tie("node"), { maxLength: 3 }),
    )
    .map(([tag, namespace, attributes, children]) => xml(namespace, tag, attributes, ...children)),
  node: fc.oneof(
    { maxDepth: 4 },
    carried.filter((text) => text !== ""),
    tie("element"),
  ),
}));

/** Adjacent texts become one, as in any parsed document. */
function normal(given: XmlElement): XmlElement {
  const children: XmlNode[] = [];
  for (const child of given.children) {
    const last = children.at(-1);
    if (typeof child !== "string") children.push(normal(child));
    else if (typeof last === "string") children[children.length - 1] = last + child;
    else children.push(child);
  }
  return { ...given, attributes: { ...given.attributes }, children };
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

describe("stream parser", () => {
  it("reads back what was written, however it is cut into pieces", () => {
    fc.assert(
      fc.property(
        fc.array(element, { maxLength: 4 }),
        fc.integer({ min: 1, max: 17 }),
        (all, size) => {
          const bytes = Buffer.from(OPEN + all.map((one) => serialise(one)).join(""));
          const chunks = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
            bytes.subarray(index * size, (index + 1) * size),
          );
          assert.deepEqual(plain(read(chunks).stanzas), plain(all.map(normal)));
        },
      ),
      { numRuns: 200 },
    );
  });

  for (const [what, text, code] of [
    ["a document type", "<!DOCTYPE a><a/>", "xmpp.xml-invalid"],
    ["a comment", "<!-- a -->", "xmpp.xml-restricted"],
    ["a processing instruction", "<?php a?>", "xmpp.xml-restricted"],
    ["an unknown entity", "<a>&xxe;</a>", "xmpp.xml-invalid"],
    ["a property of objects as an entity", "<a>&constructor;</a>", "xmpp.xml-invalid"],
    ["a control character", "<a>&#0;</a>", "xmpp.xml-invalid"],
    ["an attribute twice", '<a b="1" b="2"/>', "xmpp.xml-invalid"],
    ["an unbound prefix", "<x:a/>", "xmpp.xml-invalid"],
    ["tags that do not match", "<a></b>", "xmpp.xml-invalid"],
    ["text between stanzas", "hello<a/>", "xmpp.xml-invalid"],
    ["nesting beyond sense", "<a>".repeat(2000), "xmpp.too-deep"],
  ] as const) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => readText(text),
        (error) => hasCode(error, code),
      );
    });
  }

  it("refuses a document type before the stream, and what is no stream", () => {
    for (const [text, code] of [
      ['<!DOCTYPE a [<!ENTITY b "c">]><a/>', "xmpp.xml-restricted"],
      ["<html>", "xmpp.xml-invalid"],
    ] as const) {
      assert.throws(
        () => read([Buffer.from(text)]),
        (error) => hasCode(error, code),
      );
    }
  });

  it("refuses bytes that are not UTF-8", () => {
    const bytes = [Buffer.from(OPEN), Uint8Array.of(0x3c, 0x61, 0x3e, 0xff)];
    assert.throws(
      () => read(bytes),
      (error) => hasCode(error, "xmpp.xml-invalid"),
    );
  });

  it("drops a stanza above the limits, and goes on with the next", () => {
    const deep = "<a>".repeat(65) + "</a>".repeat(65);
    const just = "<a>".repeat(64) + "</a>".repeat(64);
    const long = `<a>${"x".repeat(600_000)}</a>`;
    const result = readText(`${deep}${just}${long}<b/>`);
    assert.deepEqual(
      [result.dropped, result.stanzas.map((stanza) => stanza.name)],
      [2, ["a", "b"]],
    );
  });

  it("gives up on a stanza that does not end", () => {
    const chunk = Buffer.from("x".repeat(65_536));
    const chunks = [Buffer.from(`${OPEN}<a>`), ...Array.from({ length: 80 }, () => chunk)];
    assert.throws(
      () => read(chunks),
      (error) => hasCode(error, "xmpp.stanza-too-large"),
    );
  });

  it("tells when the stream ends", () => {
    assert.equal(readText("<a/></stream:stream>").ended, true);
  });
});

describe("serialise", () => {
  it("refuses what XML cannot carry", () => {
    for (const text of ["\u0000", "\u001b", "\ufffe", "\ud800"]) {
      assert.throws(
        () => serialise(xml("urn:a", "a", {}, text)),
        (error) => hasCode(error, "xmpp.text-invalid"),
      );
    }
  });
});
