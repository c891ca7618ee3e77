/**
 * The server's side of the handshake: bytes of the client in, bytes for it out, until it has chosen
 * an export or goes away. Pure: it knows exports only as facts.
 */
import { TesseraError } from "#core";
import { violation } from "./errors.ts";
import {
  decodeContextQuery,
  decodeExportQuery,
  decodeName,
  encodeContext,
  encodeExportFacts,
  encodeInfo,
  encodeOptionReply,
  encodeServerEntry,
  encodeSizeConstraints,
  optionLength,
  type Option,
} from "./options.ts";
import {
  ALLOCATION,
  EXPORT_NAME_ZEROES_BYTES,
  GREETING_BYTES,
  HANDSHAKE,
  INFO,
  INIT_MAGIC,
  OPTION,
  OPTION_BYTES_MAX,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTIONS_MAX,
  PAYLOAD_BYTES_MAX,
  REPLY,
  TRANSMISSION,
} from "./protocol.ts";

/** An export as the handshake tells it. */
export interface OfferedExport {
  readonly name: string;
  readonly description: string;
  readonly sizeBytes: number;
  /** Transmission flags without SEND_DF, which depends on what is negotiated. */
  readonly flags: number;
  readonly preferredBytes: number;
}

/** What was agreed on. */
export interface Agreement {
  readonly exportName: string;
  readonly structured: boolean;
  /** Whether BLOCK_STATUS of `base:allocation` was agreed on; its number is {@link CONTEXT_ID}. */
  readonly allocation: boolean;
  /** What the client sent already after the handshake. */
  readonly rest: Buffer;
}

export const CONTEXT_ID = 1;

const BUFFER_BYTES_MAX = OPTION_HEADER_BYTES + OPTION_BYTES_MAX;
const KNOWN_CLIENT_FLAGS = HANDSHAKE.FIXED_NEWSTYLE | HANDSHAKE.NO_ZEROES;
const EMPTY = Buffer.alloc(0);

/** The first thing that a server says. */
export function greeting(): Buffer {
  const bytes = Buffer.alloc(GREETING_BYTES);
  bytes.writeBigUInt64BE(INIT_MAGIC, 0);
  bytes.writeBigUInt64BE(OPTION_MAGIC, 8);
  bytes.writeUInt16BE(HANDSHAKE.FIXED_NEWSTYLE | HANDSHAKE.NO_ZEROES, 16);
  return bytes;
}

type Step = Agreement | "aborted" | undefined;
type Send = (bytes: Buffer) => void;

export class Negotiation {
  readonly #exports: ReadonlyMap<string, OfferedExport>;
  readonly #send: Send;
  #bytes: Buffer = EMPTY;
  #noZeroes: boolean | undefined;
  #structured = false;
  /** The export for which `base:allocation` was chosen last. */
  #contextOf: string | undefined;
  #options = 0;

  constructor(exports: ReadonlyMap<string, OfferedExport>, send: Send) {
    this.#exports = exports;
    this.#send = send;
  }

  /**
   * Takes what came and answers it.
   *
   * @returns what was agreed on; `aborted` when the client is done; undefined when it has more to say
   * @throws `nbd.protocol-violation`, `nbd.export-unknown` (peer): the connection must end
   */
  push(chunk: Buffer): Step {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    if (this.#noZeroes === undefined && !this.#takeClientFlags()) return undefined;
    for (let option = this.#next(); option !== undefined; option = this.#next()) {
      const outcome = this.#handle(option);
      if (outcome !== undefined) return outcome;
    }
    if (this.#bytes.length >= BUFFER_BYTES_MAX) throw violation("too much was said at once");
    return undefined;
  }

  #takeClientFlags(): boolean {
    if (this.#bytes.length < 4) return false;
    const flags = this.#bytes.readUInt32BE(0);
    if ((flags & ~KNOWN_CLIENT_FLAGS) !== 0) throw violation(`client flags ${flags}`);
    this.#noZeroes = (flags & HANDSHAKE.NO_ZEROES) !== 0;
    this.#bytes = this.#bytes.subarray(4);
    return true;
  }

  #next(): Option | undefined {
    const bytes = this.#bytes;
    if (bytes.length < OPTION_HEADER_BYTES) return undefined;
    const end = OPTION_HEADER_BYTES + optionLength(bytes);
    if (bytes.length < end) return undefined;
    this.#options += 1;
    if (this.#options > OPTIONS_MAX) throw violation("too many options");
    this.#bytes = bytes.subarray(end);
    return { option: bytes.readUInt32BE(8), data: bytes.subarray(OPTION_HEADER_BYTES, end) };
  }

  #reply(option: number, type: number, data: Uint8Array | string = EMPTY): void {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    this.#send(encodeOptionReply(option, type, bytes));
  }

  /** Option data that cannot be decoded is the option's failure, not that of the connection. */
  #handle(option: Option): Step {
    if (option.option === OPTION.EXPORT_NAME) return this.#exportName(option.data);
    try {
      return this.#answer(option);
    } catch (cause) {
      if (!(cause instanceof TesseraError)) throw cause;
      this.#reply(option.option, REPLY.ERR_INVALID, cause.message);
      return undefined;
    }
  }

  #answer({ option, data }: Option): Step {
    switch (option) {
      case OPTION.ABORT:
        this.#reply(option, REPLY.ACK);
        return "aborted";
      case OPTION.LIST:
        return this.#list(data);
      case OPTION.STARTTLS:
        this.#reply(option, REPLY.ERR_POLICY, "this server listens locally and has no TLS");
        return undefined;
      case OPTION.INFO:
      case OPTION.GO:
        return this.#describe(option, data);
      case OPTION.STRUCTURED_REPLY:
        return this.#chooseStructured(data);
      case OPTION.LIST_META_CONTEXT:
      case OPTION.SET_META_CONTEXT:
        return this.#contexts(option, data);
      default:
        this.#reply(option, REPLY.ERR_UNSUP, `option ${option} is not known here`);
        return undefined;
    }
  }

  #list(data: Buffer): undefined {
    if (data.length > 0) throw violation("LIST has no data");
    for (const { name, description } of this.#exports.values()) {
      this.#reply(OPTION.LIST, REPLY.SERVER, encodeServerEntry(name, description));
    }
    this.#reply(OPTION.LIST, REPLY.ACK);
  }

  #chooseStructured(data: Buffer): undefined {
    if (data.length > 0) throw violation("STRUCTURED_REPLY has no data");
    this.#structured = true;
    this.#reply(OPTION.STRUCTURED_REPLY, REPLY.ACK);
  }

  #describe(option: number, data: Buffer): Step {
    const { name, items } = decodeExportQuery(data);
    const offered = this.#exports.get(name);
    if (offered === undefined) {
      this.#reply(option, REPLY.ERR_UNKNOWN, `no export "${name}" is here`);
      return undefined;
    }
    const info = (type: number, bytes: Uint8Array): void =>
      this.#reply(option, REPLY.INFO, encodeInfo(type, bytes));
    info(INFO.EXPORT, this.#facts(offered));
    if (items.includes(INFO.NAME)) info(INFO.NAME, Buffer.from(name));
    if (items.includes(INFO.DESCRIPTION)) {
      info(INFO.DESCRIPTION, Buffer.from(offered.description));
    }
    const { preferredBytes } = offered;
    const sizes = { minimumBytes: 1, preferredBytes, payloadBytesMax: PAYLOAD_BYTES_MAX };
    if (items.includes(INFO.BLOCK_SIZE)) info(INFO.BLOCK_SIZE, encodeSizeConstraints(sizes));
    this.#reply(option, REPLY.ACK);
    return option === OPTION.GO ? this.#agree(name) : undefined;
  }

  #facts({ sizeBytes, flags }: OfferedExport): Buffer {
    const df = this.#structured ? TRANSMISSION.SEND_DF : 0;
    return encodeExportFacts({ sizeBytes, flags: flags | df });
  }

  #agree(exportName: string): Agreement {
    const allocation = this.#structured && this.#contextOf === exportName;
    return { exportName, structured: this.#structured, allocation, rest: this.#bytes };
  }

  #exportName(data: Buffer): Agreement {
    const name = decodeName(data);
    const offered = this.#exports.get(name);
    if (offered === undefined) {
      const message = `a client asked for the export "${name}", which is not here`;
      throw new TesseraError("peer", "nbd.export-unknown", message, { subject: name });
    }
    const zeroes = Buffer.alloc(this.#noZeroes === true ? 0 : EXPORT_NAME_ZEROES_BYTES);
    this.#send(Buffer.concat([this.#facts(offered), zeroes]));
    return this.#agree(name);
  }

  #contexts(option: number, data: Buffer): undefined {
    if (option === OPTION.SET_META_CONTEXT) this.#contextOf = undefined;
    if (!this.#structured) throw violation("metadata contexts need structured replies");
    const { name, queries } = decodeContextQuery(data);
    if (!this.#exports.has(name)) {
      this.#reply(option, REPLY.ERR_UNKNOWN, `no export "${name}" is here`);
      return;
    }
    const lists = option === OPTION.LIST_META_CONTEXT;
    const wanted = lists ? [ALLOCATION, "base:"] : [ALLOCATION];
    const chosen =
      (lists && queries.length === 0) || queries.some((query) => wanted.includes(query));
    const id = lists ? 0 : CONTEXT_ID;
    if (chosen) this.#reply(option, REPLY.META_CONTEXT, encodeContext({ id, name: ALLOCATION }));
    if (chosen && !lists) this.#contextOf = name;
    this.#reply(option, REPLY.ACK);
  }
}
