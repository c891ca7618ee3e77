/**
 * The QEMU Machine Protocol's messages (QEMU, docs/interop/qmp-spec): one JSON object per line.
 *
 *     server: {"QMP": {"version": ..., "capabilities": ["oob"]}}
 *     client: {"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}, "id": 0}
 *     server: {"return": {}, "id": 0}
 *     client: {"execute": "query-status", "id": 1}
 *     server: {"return": {"status": "running", ...}, "id": 1}
 *     server: {"event": "SHUTDOWN", "data": {...}, "timestamp": {...}}
 *
 * Only the greeting's members that we use are required, so that any version of QEMU 7 or later fits.
 */
import { z } from "zod";
import { TesseraError, type Json } from "#core";

/** The longest line that is accepted; `query-*` answers have a few kilobytes. */
export const QMP_LINE_BYTES_MAX = 2 ** 20;

export type QmpMessage =
  | { readonly type: "greeting"; readonly capabilities: readonly string[] }
  | { readonly type: "return"; readonly id: number | undefined; readonly value: unknown }
  | { readonly type: "error"; readonly id: number | undefined; readonly error: QmpErrorText }
  | ({ readonly type: "event" } & QmpEvent);

export interface QmpEvent {
  readonly event: string;
  readonly data: unknown;
  /** QEMU's time: milliseconds since the Unix epoch; undefined where it could not be read. */
  readonly at_ms: number | undefined;
}

export interface QmpErrorText {
  readonly class: string;
  readonly description: string;
}

const ID = z.int().optional();
const GREETING = z.object({ QMP: z.object({ capabilities: z.array(z.string()).max(64) }) });
const RETURN = z.object({ return: z.unknown(), id: ID });
const ERROR = z.object({ error: z.object({ class: z.string(), desc: z.string() }), id: ID });
/** Both members are -1 when QEMU's host has no time (qmp-spec, 2.5). */
const TIME = z.object({ seconds: z.int().min(0), microseconds: z.int().min(0).max(999_999) });
const EVENT = z.object({
  event: z.string(),
  data: z.unknown().optional(),
  timestamp: z.unknown().optional(),
});

function broken(reason: string, cause?: unknown): TesseraError {
  return new TesseraError("peer", "hypervisor.qmp-broken", `QMP: ${reason}`, {
    remedy: "look at qemu.log in the machine's directory",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Splits the byte stream into lines and decodes each; keeps an unfinished line. */
export class QmpDecoder {
  #rest: Uint8Array[] = [];
  #restBytes = 0;

  /**
   * The messages that this chunk completes.
   *
   * @throws `hypervisor.qmp-broken` (peer): too long a line, no JSON, no message of QMP
   */
  push(chunk: Uint8Array): QmpMessage[] {
    const messages: QmpMessage[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      this.#keep(chunk.subarray(start, end));
      start = end + 1;
      const line = Buffer.concat(this.#rest).toString("utf8").trim();
      this.#rest = [];
      this.#restBytes = 0;
      if (line !== "") messages.push(messageOf(decodeLine(line)));
    }
    this.#keep(chunk.subarray(start));
    return messages;
  }

  #keep(part: Uint8Array): void {
    this.#restBytes += part.length;
    if (this.#restBytes > QMP_LINE_BYTES_MAX) throw broken("a line is too long");
    if (part.length > 0) this.#rest.push(part);
  }
}

function decodeLine(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw broken("a line is not JSON", cause);
  }
}

function messageOf(value: unknown): QmpMessage {
  const greeting = GREETING.safeParse(value);
  if (greeting.success) return { type: "greeting", ...greeting.data.QMP };
  const failure = ERROR.safeParse(value);
  if (failure.success) {
    const { class: name, desc } = failure.data.error;
    return { type: "error", id: failure.data.id, error: { class: name, description: desc } };
  }
  const event = EVENT.safeParse(value);
  if (event.success) return eventOf(event.data);
  const answer = RETURN.safeParse(value);
  if (answer.success && typeof value === "object" && value !== null && "return" in value) {
    return { type: "return", id: answer.data.id, value: answer.data.return };
  }
  throw broken("a line is none of greeting, return, error, event");
}

function eventOf({ event, data, timestamp }: z.infer<typeof EVENT>): QmpMessage {
  const { data: time } = TIME.safeParse(timestamp);
  const at_ms = time === undefined ? undefined : time.seconds * 1000 + time.microseconds / 1000;
  return { type: "event", event, data, at_ms };
}

/** One command as a line; `outOfBand` is for commands that QEMU runs even while it hangs. */
export function encodeCommand(
  id: number,
  command: string,
  args: Readonly<Record<string, Json>> = {},
  outOfBand = false,
): string {
  const verb = outOfBand ? "exec-oob" : "execute";
  return `${JSON.stringify({ [verb]: command, arguments: args, id })}\n`;
}
