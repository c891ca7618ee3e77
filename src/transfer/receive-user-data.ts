import { decompress } from "./compression.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import {
  UserDataEndSchema,
  UserDataOpenedSchema,
  decodeBlocks,
  decodeJson,
  type BlocksHead,
} from "./messages.ts";
import { pipelined } from "./pipeline.ts";
import { FLAG_ZSTD, TYPE } from "./protocol.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import type { UserDataEnd, UserDataTarget } from "./user-data-target.ts";

const PIPELINE_DEPTH = 4;

interface Opened {
  readonly sizeBytes: number;
  readonly allocatedBytes: number;
}

interface Piece {
  readonly frame: Frame;
  readonly blocks?: { readonly head: BlocksHead; readonly bytes: Uint8Array };
}

async function receiveOpened(stream: IncomingStream, sizeBytesMax: number): Promise<Opened> {
  const frame = await stream.next();
  if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
  const opened = decodeJson(frame, UserDataOpenedSchema);
  if (opened.sizeBytes <= sizeBytesMax) return opened;
  const message = `the user data block has ${opened.sizeBytes} bytes, ${sizeBytesMax} were agreed on`;
  throw peerError("size-mismatch", message);
}

/** Decodes frames in order, as each must follow the blocks of the one before. */
function blockDecoder(sizeBytes: number, from: number): (frame: Frame) => Promise<Piece> {
  let nextBlock = from;
  return async (frame) => {
    if (frame.type === TYPE.END) return { frame };
    if (frame.type !== TYPE.BLOCKS) throw violation(`frame type ${frame.type} in user data`);
    const head = decodeBlocks(frame, { sizeBytes, nextBlock });
    nextBlock = head.nextBlock;
    const { data, rawBytes } = head;
    if ((frame.flags & FLAG_ZSTD) !== 0) {
      return { frame, blocks: { head, bytes: await decompress(data, rawBytes) } };
    }
    if (data.length !== rawBytes) throw violation(`${data.length} bytes in place of ${rawBytes}`);
    return { frame, blocks: { head, bytes: data } };
  };
}

/**
 * Receives what the user data block lacks over one connection, up to END.
 *
 * @throws `transfer.protocol-violation`, `transfer.size-mismatch`, `transfer.not-ready` and other
 *   errors of the sender, the reason why the connection ended, what the disk throws
 */
export async function receiveUserData(
  receiver: Receiver,
  target: UserDataTarget,
  options: {
    readonly signal: AbortSignal;
    readonly sizeBytesMax: number;
    readonly onPiece: (opened: Opened) => void;
  },
): Promise<UserDataEnd & Opened> {
  const { signal, sizeBytesMax, onPiece } = options;
  const stream = receiver.open({ kind: "userData", block: target.nextBlock });
  const abort = (): void => stream.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const wireBytes = target.wireBytes;
  try {
    const opened = await receiveOpened(stream, sizeBytesMax);
    await target.opened(opened.sizeBytes, opened.allocatedBytes);
    const decode = blockDecoder(opened.sizeBytes, target.nextBlock);
    const stop = (): void => stream.fail(violation("stopped"));
    for await (const { frame, blocks } of pipelined(
      stream.frames(),
      PIPELINE_DEPTH,
      decode,
      stop,
    )) {
      target.wireBytes = wireBytes + stream.wireBytes;
      if (frame.type === TYPE.END) return { ...opened, ...decodeJson(frame, UserDataEndSchema) };
      if (blocks !== undefined) await target.write(blocks.head, blocks.bytes);
      stream.recycle(frame);
      onPiece(opened);
    }
    throw violation("the stream ended without END");
  } catch (cause) {
    receiver.done(stream, cause);
    throw cause;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
