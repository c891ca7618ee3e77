import { TesseraError, type Digest } from "#core";
import type { BlockDevice } from "#block";
import { blobDictionary } from "./blob-dictionary.ts";
import { compressionLevel } from "./compression.ts";
import type { Connection } from "./connection.ts";
import type { DataSource } from "./contract.ts";
import { peerError, violation } from "./errors.ts";
import type { Frame } from "./frame.ts";
import {
  OpenSchema,
  decodeCredit,
  decodeError,
  decodeJson,
  encodeError,
  type Open,
} from "./messages.ts";
import { patchLevel } from "./patch.ts";
import { BLOB_DICTIONARY_BYTES_MAX, STREAMS_MAX, TYPE } from "./protocol.ts";
import { sendBlob } from "./send-blob.ts";
import { sendContents, type ContentsSession } from "./send-contents.ts";
import { sendMap } from "./send-map.ts";
import type { SenderTunnels } from "./send-memory.ts";
import { sendRecipe } from "./send-recipe.ts";
import { ReadQueue, sendReads } from "./send-reads.ts";
import { sendUserData } from "./send-user-data.ts";
import { OutgoingStream, type SenderLink } from "./sender-stream.ts";
import type { UserDataLedger } from "./user-data-ledger.ts";

/** Streams at work, those included that were given up and are still being closed. */
const RUNNING_MAX = 4 * STREAMS_MAX;

/** What a sender serves in one session. */
export interface SenderSession extends SenderLink, ContentsSession {
  readonly ledger: UserDataLedger;
  readonly tunnels: SenderTunnels;
  /** Processors that are free to compress. */
  readonly cores: number;
}

/** The sender's role on one connection, after the handshake: answers OPEN with data. */
class Sender {
  readonly #connection: Connection;
  readonly #session: SenderSession;
  readonly #streams = new Map<number, OutgoingStream>();
  #lastStream = 0;
  #running = 0;

  constructor(connection: Connection, session: SenderSession) {
    this.#connection = connection;
    this.#session = session;
  }

  handle(frame: Frame): void {
    if (frame.type === TYPE.OPEN) this.#open(frame);
    else if (frame.stream > this.#lastStream) throw violation("a stream that was never opened");
    else if (frame.type === TYPE.CREDIT) {
      const { amountBytes, busyShare } = decodeCredit(frame);
      this.#session.meter.receiverBusy(busyShare);
      this.#streams.get(frame.stream)?.addCredit(amountBytes);
    } else if (frame.type === TYPE.WANT) {
      this.#streams.get(frame.stream)?.want(frame.payload);
    } else if (frame.type === TYPE.READ || frame.type === TYPE.CANCEL) {
      this.#read(frame);
    } else if (frame.type === TYPE.REPLY || frame.type === TYPE.TAKEN) {
      this.#tunnelled(frame);
    } else if (frame.type === TYPE.ERROR) {
      this.#streams.get(frame.stream)?.cancel(decodeError(frame));
      this.#streams.delete(frame.stream);
    } else throw violation(`a sender takes no frame of type ${frame.type}`);
  }

  #read(frame: Frame): void {
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) return;
    if (stream.reads === undefined) throw violation("a READ in a stream of another kind");
    stream.reads.take(frame);
  }

  #tunnelled(frame: Frame): void {
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) return;
    if (stream.tunnel === undefined) throw violation("a REPLY or TAKEN where no tunnel is open");
    if (frame.type === TYPE.REPLY) stream.tunnel.replied(stream, frame);
    else stream.tunnel.taken(stream, frame);
  }

  #open(frame: Frame): void {
    const open = decodeJson(frame, OpenSchema);
    if (frame.stream <= this.#lastStream) throw violation("stream ids must grow");
    const tooMany = this.#streams.size >= STREAMS_MAX || this.#running >= RUNNING_MAX;
    if (tooMany) throw violation("too many streams at a time");
    this.#lastStream = frame.stream;
    const { credit, priority } = open;
    const own = { id: frame.stream, credit, priority };
    const stream = new OutgoingStream(this.#connection, this.#session, own);
    if (open.kind === "blocks") stream.reads = new ReadQueue();
    this.#streams.set(frame.stream, stream);
    void this.#run(stream, open);
  }

  /** Never rejects: a failure is told to the receiver, unless it is the one who gave up. */
  async #run(stream: OutgoingStream, open: Open): Promise<void> {
    this.#running += 1;
    try {
      await this.#send(stream, open);
    } catch (cause) {
      if (!stream.signal.aborted) {
        const unexpected = () => peerError("source-failed", "the data cannot be read", { cause });
        const error = cause instanceof TesseraError ? cause : unexpected();
        this.#connection.send(TYPE.ERROR, stream.id, encodeError(error));
      }
    } finally {
      this.#running -= 1;
      this.#streams.delete(stream.id);
    }
  }

  async #send(stream: OutgoingStream, open: Open): Promise<void> {
    const { source, ledger } = this.#session;
    const level = () => this.#level();
    if (open.kind === "recipe") {
      await sendRecipe(stream, this.#session, open);
      this.#streams.delete(stream.id);
    } else if (open.kind === "contents") {
      await sendContents(stream, this.#session, open);
      this.#streams.delete(stream.id);
    } else if (open.kind === "blob") {
      await withOpened(await source.openBlob(open.digest), async (reader) => {
        const base = await dictionaryFor(source, reader.sizeBytes, open.base);
        await sendBlob(stream, reader, { name: open.digest, offset: open.offset, level, base });
        this.#streams.delete(stream.id);
      });
    } else if (open.kind === "blocks") {
      await withOpened(await openBlocks(source), (device) => {
        const { reads = new ReadQueue() } = stream;
        return sendReads(stream, device, { reads, level });
      });
    } else if (open.kind === "memory") {
      await this.#session.tunnels.carry(stream, open, this.#session);
    } else if (open.kind === "map") {
      await sendMap(stream, source, open.name);
    } else {
      await withOpened(await source.openUserData(), async (device) => {
        const { block: from, lineage, references } = open;
        const patches = () => this.#patchLevel();
        const options = { from, ledger, level, patchLevel: patches, lineage, references };
        await sendUserData(stream, source, device, options);
        this.#streams.delete(stream.id);
      });
    }
  }

  #patchLevel(): number | undefined {
    const { compression, meter, cores } = this.#session;
    return compression === "none" ? undefined : patchLevel(meter.rate(), cores);
  }

  #level(): number | undefined {
    const { compression, meter, cores } = this.#session;
    return compression === "none" ? undefined : compressionLevel(meter.rate(), cores);
  }
}

/** Takes the sender's role on a connection, after the handshake. */
export function serveSender(connection: Connection, session: SenderSession): void {
  const sender = new Sender(connection, session);
  connection.observe((delivered) => session.meter.delivered(delivered));
  connection.serve((frame) => sender.handle(frame));
}

/** @throws `transfer.not-offered` */
async function openBlocks(source: DataSource): Promise<BlockDevice> {
  if (source.openBlocks !== undefined) return await source.openBlocks();
  throw peerError("not-offered", "no blocks can be read one by one in this session");
}

/** The dictionary for a blob: the base, where it is held here and both are small enough. */
async function dictionaryFor(source: DataSource, sizeBytes: number, digest: Digest | undefined) {
  if (digest === undefined || sizeBytes > BLOB_DICTIONARY_BYTES_MAX) return undefined;
  const reader = await source.openBaseBlob?.(digest);
  if (reader === undefined) return undefined;
  return withOpened(reader, async () => {
    const dictionary = await blobDictionary(reader);
    return dictionary === undefined ? undefined : { digest, dictionary };
  });
}

/** Runs `work` on what was opened, and closes it in any case. */
async function withOpened<T extends { close(): Promise<void> }, R>(
  opened: T,
  work: (opened: T) => Promise<R>,
): Promise<R> {
  try {
    return await work(opened);
  } finally {
    await opened.close();
  }
}
