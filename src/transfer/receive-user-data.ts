import { pipelined } from "#core";
import { BLOCK_BYTES } from "#block";
import type { BlobReader } from "#repository";
import { PAGE_BYTES } from "./changes.ts";
import { decompress } from "./compression.ts";
import type { UserDataHelp } from "./contract.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import {
  UserDataEndSchema,
  UserDataOpenedSchema,
  decodeBlocks,
  decodeJson,
  type BlocksHead,
} from "./messages.ts";
import { FLAG_ZSTD, TYPE } from "./protocol.ts";
import { ChangesDecoder, type DecodedChanges } from "./receive-changes.ts";
import type { IncomingStream, Receiver } from "./receiver-streams.ts";
import type { DeviceWrite } from "./redo-journal.ts";
import type { UserDataEnd, UserDataOpened, UserDataTarget } from "./user-data-target.ts";

const PIPELINE_DEPTH = 4;

interface Opened extends UserDataOpened {
  readonly references?: number | undefined;
}

interface Piece {
  readonly frame: Frame;
  /** Absent at the end. */
  readonly changes?: DecodedChanges;
}

export interface UserDataSettings {
  readonly signal: AbortSignal;
  readonly sizeBytesMax: number;
  readonly images: NonNullable<UserDataHelp["images"]>;
  readonly onPiece: (totalBytes: number) => void;
}

async function receiveOpened(
  stream: IncomingStream,
  { sizeBytesMax, images }: UserDataSettings,
): Promise<Opened> {
  const frame = await stream.next();
  if (frame.type !== TYPE.OPENED) throw violation(`frame type ${frame.type} before OPENED`);
  const opened = decodeJson(frame, UserDataOpenedSchema);
  if ((opened.references ?? 0) > images.length) throw violation("references to unknown components");
  if (opened.sizeBytes <= sizeBytesMax) return opened;
  const message = `the user data block has ${opened.sizeBytes} bytes, ${sizeBytesMax} were agreed on`;
  throw peerError("size-mismatch", message);
}

/** The writes for the runs of a BLOCKS frame. */
function writesOf({ runs }: BlocksHead, bytes: Uint8Array): DeviceWrite[] {
  let at = 0;
  return runs.map(({ index, count }) => {
    const piece = bytes.subarray(at, at + count * BLOCK_BYTES);
    at += piece.length;
    return { offset: index * BLOCK_BYTES, bytes: piece };
  });
}

type Decode = (frame: Frame) => Promise<DecodedChanges>;

/** Decodes frames in order, as each must follow the blocks of the one before. */
function blockDecoder(sizeBytes: number, from: number): Decode {
  let nextBlock = from;
  return async (frame) => {
    if (frame.type !== TYPE.BLOCKS) throw violation(`frame type ${frame.type} in user data`);
    const head = decodeBlocks(frame, { sizeBytes, nextBlock });
    nextBlock = head.nextBlock;
    const { data, rawBytes } = head;
    if ((frame.flags & FLAG_ZSTD) !== 0) {
      return {
        writes: writesOf(head, await decompress(data, rawBytes)),
        nextBlock: head.nextBlock,
      };
    }
    if (data.length !== rawBytes) throw violation(`${data.length} bytes in place of ${rawBytes}`);
    return { writes: writesOf(head, data), nextBlock: head.nextBlock };
  };
}

/** The decoder for what the sender chose. */
function decoderOf(opened: Opened, target: UserDataTarget, images: readonly BlobReader[]): Decode {
  const { sizeBytes, lineage, references } = opened;
  if (lineage === undefined && references === undefined) {
    return blockDecoder(sizeBytes, target.nextBlock);
  }
  const imagePages = images.map((image) => Math.floor(image.sizeBytes / PAGE_BYTES));
  const decoder = new ChangesDecoder(
    {
      context: { sizeBytes, lineage: lineage !== undefined, imagePages },
      images,
      readOld: (bytes, offset) => target.readOld(bytes, offset),
    },
    target.nextBlock,
  );
  return async (frame) => {
    if (frame.type !== TYPE.CHANGES) throw violation(`frame type ${frame.type} in user data`);
    return await decoder.decode(frame);
  };
}

function openStream(receiver: Receiver, target: UserDataTarget, { images }: UserDataSettings) {
  return receiver.open({
    kind: "userData",
    block: target.nextBlock,
    ...(target.offer === undefined ? {} : { lineage: target.offer.digest }),
    ...(images.length === 0 ? {} : { references: true }),
  });
}

/**
 * Receives what the user data block lacks over one connection, up to END.
 *
 * @throws `transfer.protocol-violation`, `transfer.size-mismatch`, `transfer.not-ready` and other
 *   errors of the sender, `transfer.lineage-mismatch`, the reason why the connection ended, what the
 *   disk throws
 */
export async function receiveUserData(
  receiver: Receiver,
  target: UserDataTarget,
  settings: UserDataSettings,
): Promise<UserDataEnd & Opened> {
  for (;;) {
    const end = await receiveOnce(receiver, target, settings);
    if (end !== undefined) return end;
  }
}

/** Undefined when the target has begun anew. */
async function receiveOnce(
  receiver: Receiver,
  target: UserDataTarget,
  settings: UserDataSettings,
): Promise<(UserDataEnd & Opened) | undefined> {
  const { signal } = settings;
  const stream = openStream(receiver, target, settings);
  const abort = (): void => stream.fail(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  const images: BlobReader[] = [];
  try {
    const opened = await receiveOpened(stream, settings);
    if (!(await target.opened(opened))) {
      receiver.done(stream, peerError("cancelled", "begun anew"));
      return undefined;
    }
    for (const open of settings.images.slice(0, opened.references ?? 0)) images.push(await open());
    const end = await receivePieces(stream, target, { opened, images, settings });
    return { ...opened, ...end };
  } catch (cause) {
    receiver.done(stream, cause);
    throw cause;
  } finally {
    signal.removeEventListener("abort", abort);
    await Promise.all(images.map((image) => image.close()));
  }
}

async function receivePieces(
  stream: IncomingStream,
  target: UserDataTarget,
  context: {
    readonly opened: Opened;
    readonly images: readonly BlobReader[];
    readonly settings: UserDataSettings;
  },
): Promise<UserDataEnd> {
  const { opened, images, settings } = context;
  const decode = decoderOf(opened, target, images);
  const stop = (): void => stream.fail(violation("stopped"));
  const wireBytes = target.wireBytes;
  const pieces = pipelined(
    stream.frames(),
    PIPELINE_DEPTH,
    async (frame): Promise<Piece> =>
      frame.type === TYPE.END ? { frame } : { frame, changes: await decode(frame) },
    stop,
  );
  for await (const { frame, changes } of pieces) {
    target.wireBytes = wireBytes + stream.wireBytes;
    if (frame.type === TYPE.END) return decodeJson(frame, UserDataEndSchema);
    if (changes !== undefined) await target.write(changes.writes, changes.nextBlock);
    stream.release(frame);
    settings.onPiece(opened.changedBytes ?? opened.allocatedBytes);
  }
  throw violation("the stream ended without END");
}
