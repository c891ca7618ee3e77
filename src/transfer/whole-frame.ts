/** One Zstandard frame that is a stream's whole answer, over BYTES frames; see doc/data-protocol.md. */
import { violation } from "./errors.ts";
import { ContentsEndSchema, bytesPrefix, decodeBytes, decodeJson } from "./messages.ts";
import { RAW_BYTES_MAX, TYPE } from "./protocol.ts";
import type { IncomingStream } from "./receiver-streams.ts";
import type { OutgoingStream } from "./sender-stream.ts";

/** Sends the frame, of which `rawBytes` come out, and the end of the stream. */
export async function sendWhole(
  stream: OutgoingStream,
  frame: Buffer,
  { rawBytes, encoding }: { readonly rawBytes: number; readonly encoding: string },
): Promise<void> {
  for (let at = 0; at < frame.length; at += RAW_BYTES_MAX) {
    const data = frame.subarray(at, at + RAW_BYTES_MAX);
    const parts = [bytesPrefix(at, data.length), data];
    const share = Math.floor((rawBytes * data.length) / frame.length);
    await stream.data({ type: TYPE.BYTES, flags: 0, parts }, share, encoding);
  }
  stream.ended({});
}

/**
 * The frames' bytes up to END in order, joined.
 *
 * @throws `transfer.protocol-violation` for other frames, gaps, or more than `bytesMax`
 */
export async function receiveWhole(stream: IncomingStream, bytesMax: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const frame of stream.frames()) {
    if (frame.type === TYPE.END) decodeJson(frame, ContentsEndSchema);
    else if (frame.type !== TYPE.BYTES) throw violation(`frame type ${frame.type} among BYTES`);
    else {
      const { offset, rawBytes, data } = decodeBytes(frame);
      if (offset !== length || data.length !== rawBytes || frame.flags !== 0) {
        throw violation(`${rawBytes} bytes at ${offset} where ${length} was due`);
      }
      length += rawBytes;
      if (length > bytesMax) throw violation(`more than ${bytesMax} bytes in all`);
      pieces.push(Buffer.from(data));
      stream.release(frame);
    }
  }
  return Buffer.concat(pieces, length);
}
