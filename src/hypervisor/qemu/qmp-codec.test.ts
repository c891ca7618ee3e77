import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { hasCode } from "#core";
import { encodeCommand, QMP_LINE_BYTES_MAX, QmpDecoder, type QmpMessage } from "./qmp-codec.ts";

const DIALOGUE: readonly (readonly [line: string, message: QmpMessage])[] = [
  [
    '{"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": ["oob"]}}',
    { type: "greeting", capabilities: ["oob"] },
  ],
  ['{"return": {}, "id": 0}', { type: "return", id: 0, value: {} }],
  [
    '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "POWERDOWN"}',
    { type: "event", event: "POWERDOWN", data: undefined, at_ms: 1000.002 },
  ],
  [
    '{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}',
    {
      type: "event",
      event: "SHUTDOWN",
      data: { guest: true, reason: "guest-shutdown" },
      at_ms: undefined,
    },
  ],
  [
    '{"id": 3, "error": {"class": "GenericError", "desc": "no \\u00fc"}}',
    { type: "error", id: 3, error: { class: "GenericError", description: "no ü" } },
  ],
  ['{"return": null}', { type: "return", id: undefined, value: null }],
];
const BYTES = Buffer.from(DIALOGUE.map(([line]) => `${line}\r\n`).join(""));
const MESSAGES = DIALOGUE.map(([, message]) => message);

const broken = (error: unknown): boolean => hasCode(error, "hypervisor.qmp-broken");

test("a dialogue is read however its bytes are split", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(BYTES.length), { maxLength: 20 }), (cuts) => {
      const decoder = new QmpDecoder();
      const ends = [...cuts.toSorted((a, b) => a - b), BYTES.length];
      let start = 0;
      const read = ends.flatMap((end) => {
        const messages = decoder.push(BYTES.subarray(start, end));
        start = end;
        return messages;
      });
      assert.deepEqual(read, MESSAGES);
    }),
  );
});

test("garbage is refused as the peer's fault and never crashes", () => {
  for (const line of ["garbage", "{}", "[]", "null", "3", '{"return": {}, "id": "a"}', "{"]) {
    assert.throws(() => new QmpDecoder().push(Buffer.from(`${line}\n`)), broken, line);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        new QmpDecoder().push(bytes);
      } catch (error) {
        assert.ok(broken(error));
      }
    }),
  );
});

function lineOf(bytes: number): string {
  return `{"return":"${"x".repeat(bytes - 13)}"}`;
}

test("a line may have the longest length and not a byte more", () => {
  const fits = Buffer.from(`${lineOf(QMP_LINE_BYTES_MAX)}\n`);
  assert.equal(fits.length, QMP_LINE_BYTES_MAX + 1);
  assert.equal(new QmpDecoder().push(fits).length, 1);
  assert.throws(() => new QmpDecoder().push(Buffer.from(lineOf(QMP_LINE_BYTES_MAX + 1))), broken);
});

test("a line that never ends is refused before it is kept", () => {
  const decoder = new QmpDecoder();
  const chunk = Buffer.alloc(2 ** 16, 32);
  for (let bytes = 0; bytes < QMP_LINE_BYTES_MAX; bytes += chunk.length) decoder.push(chunk);
  assert.throws(() => decoder.push(chunk), broken);
});

test("commands are one line each", () => {
  assert.equal(
    encodeCommand(7, "blockdev-del", { "node-name": "a\nb" }),
    '{"execute":"blockdev-del","arguments":{"node-name":"a\\nb"},"id":7}\n',
  );
  assert.match(encodeCommand(8, "yank", {}, true), /^\{"exec-oob":"yank"/);
});
