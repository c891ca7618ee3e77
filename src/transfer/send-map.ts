import type { DataSource } from "./contract.ts";
import { peerError } from "./errors.ts";
import { coarsen, encodeExtents, inOrder } from "./extent-map.ts";
import { MAP_BYTES_MAX } from "./protocol.ts";
import type { OutgoingStream } from "./sender-stream.ts";
import { compressFrame } from "./solid.ts";
import { sendWhole } from "./whole-frame.ts";

/** Neighbours in a map are much alike: higher levels gain little. */
const LEVEL = 3;

/**
 * Answers a stream `map`: where the user data block has what `name` says.
 *
 * @throws `transfer.not-offered`, what the source throws
 */
export async function sendMap(
  stream: OutgoingStream,
  source: Pick<DataSource, "openMap">,
  name: string,
): Promise<void> {
  if (source.openMap === undefined) {
    throw peerError("not-offered", "there are no maps in this session", { subject: name });
  }
  const extents = coarsen(inOrder(await source.openMap(name)));
  const encoded = encodeExtents(extents);
  // A frame is hardly ever longer than its content; one that were would not be taken.
  const bytesMax = MAP_BYTES_MAX;
  const frame = await compressFrame(encoded, { compressionLevel: LEVEL }, { bytesMax });
  if (frame === undefined) throw peerError("not-offered", "the map is too large to travel");
  const { length: sizeBytes } = encoded;
  stream.opened(`map ${name}`, { sizeBytes }, { doneBytes: 0, totalBytes: sizeBytes });
  await sendWhole(stream, frame, { rawBytes: sizeBytes, encoding: `solid-${LEVEL}` });
}
