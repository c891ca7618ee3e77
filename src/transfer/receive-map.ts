import type { ByteRange } from "#core";
import { violation } from "./errors.ts";
import { decodeExtents } from "./extent-map.ts";
import { MapOpenedSchema, decodeJson } from "./messages.ts";
import { MAP_BYTES_MAX, PRIORITY, TYPE } from "./protocol.ts";
import type { Receiver } from "./receiver-streams.ts";
import { decompressFrame } from "./solid.ts";
import { receiveWhole } from "./whole-frame.ts";

/**
 * Receives a map of a user data block of `sizeBytes` over one connection.
 *
 * @throws `transfer.protocol-violation`, the sender's error, the reason why the connection ended
 */
export async function receiveMap(
  receiver: Receiver,
  { name, sizeBytes }: { readonly name: string; readonly sizeBytes: number },
  signal: AbortSignal,
): Promise<ByteRange[]> {
  const stream = receiver.open({ kind: "map", name, priority: PRIORITY.control });
  const abort = (): void => stream.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    const first = await stream.next();
    if (first.type !== TYPE.OPENED) throw violation(`frame type ${first.type} before OPENED`);
    const opened = decodeJson(first, MapOpenedSchema);
    const frame = await receiveWhole(stream, MAP_BYTES_MAX);
    const encoded = await decompressFrame(frame, opened.sizeBytes);
    if (encoded === undefined) throw violation("a map does not decompress as announced");
    return decodeExtents(encoded, sizeBytes);
  } catch (cause) {
    receiver.done(stream, cause);
    throw cause;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
