/** The client's side of the handshake. */
import type { TesseraError } from "#core";
import { errorOfReply, peerError, violation } from "./errors.ts";
import {
  decodeContext,
  decodeExportFacts,
  decodeInfo,
  decodeOptionReplyHeader,
  decodeSizeConstraints,
  encodeContextQuery,
  encodeExportQuery,
  encodeOption,
  isErrorReply,
  type Context,
  type ExportFacts,
  type OptionReply,
  type SizeConstraints,
} from "./options.ts";
import {
  ALLOCATION,
  ERRNO,
  EXPORT_NAME_ZEROES_BYTES,
  GREETING_BYTES,
  HANDSHAKE,
  INFO,
  INIT_MAGIC,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTIONS_MAX,
  PAYLOAD_BYTES_MAX,
  REPLY,
} from "./protocol.ts";

/** Both directions of a connection. */
export interface Wire {
  take(length: number): Promise<Buffer>;
  send(bytes: Uint8Array): void;
}

/** What the server offered. */
export interface Offer {
  readonly facts: ExportFacts;
  readonly sizes: SizeConstraints;
  readonly structured: boolean;
  readonly contexts: readonly Context[];
}

/** "Size constraints": what holds when a server says nothing. */
const DEFAULT_SIZES: SizeConstraints = {
  minimumBytes: 1,
  preferredBytes: 4096,
  payloadBytesMax: PAYLOAD_BYTES_MAX,
};

/**
 * Takes the server's greeting and opens an export.
 *
 * @throws `nbd.export-unknown`, `nbd.tls-required`, `nbd.shutting-down`, `nbd.request-invalid`,
 *   `nbd.protocol-violation` (peer), and what `wire` does
 */
export async function haggle(
  wire: Wire,
  wanted: { readonly exportName: string; readonly contexts: readonly string[] },
): Promise<Offer> {
  const { exportName } = wanted;
  const flags = decodeGreeting(await wire.take(GREETING_BYTES));
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(flags & (HANDSHAKE.FIXED_NEWSTYLE | HANDSHAKE.NO_ZEROES), 0);
  wire.send(answer);
  const plain = () => openByName(wire, exportName, (flags & HANDSHAKE.NO_ZEROES) !== 0);
  if ((flags & HANDSHAKE.FIXED_NEWSTYLE) === 0) return await plain();
  const structured = await askStructured(wire);
  const queries = [...new Set([ALLOCATION, ...wanted.contexts])];
  const contexts = structured ? await askContexts(wire, exportName, queries) : [];
  const opened = await open(wire, exportName);
  if (opened === undefined) return { ...(await plain()), structured, contexts };
  return { ...opened, structured, contexts };
}

/** The server's flags. @throws `nbd.protocol-violation` */
function decodeGreeting(bytes: Buffer): number {
  if (bytes.readBigUInt64BE(0) !== INIT_MAGIC) throw violation("this is no NBD server");
  if (bytes.readBigUInt64BE(8) !== OPTION_MAGIC) throw violation("only newstyle is spoken here");
  return bytes.readUInt16BE(16);
}

/** Sends an option and gathers replies up to the last, an ACK or an error. */
async function ask(wire: Wire, option: number, data?: Uint8Array): Promise<OptionReply[]> {
  wire.send(encodeOption(option, data));
  const replies: OptionReply[] = [];
  while (replies.length <= OPTIONS_MAX) {
    const header = decodeOptionReplyHeader(await wire.take(OPTION_REPLY_HEADER_BYTES));
    const reply = { ...header, data: Buffer.from(await wire.take(header.length)) };
    if (reply.option !== option) throw violation(`a reply to option ${reply.option}`);
    replies.push(reply);
    if (reply.type === REPLY.ACK || isErrorReply(reply.type)) return replies;
  }
  throw violation("too many replies to an option");
}

async function askStructured(wire: Wire): Promise<boolean> {
  const replies = await ask(wire, OPTION.STRUCTURED_REPLY);
  return replies.at(-1)?.type === REPLY.ACK;
}

async function askContexts(
  wire: Wire,
  name: string,
  queries: readonly string[],
): Promise<readonly Context[]> {
  const data = encodeContextQuery({ name, queries });
  const replies = await ask(wire, OPTION.SET_META_CONTEXT, data);
  if (replies.at(-1)?.type !== REPLY.ACK) return [];
  return replies
    .filter(({ type }) => type === REPLY.META_CONTEXT)
    .map((reply) => decodeContext(reply.data));
}

/** By GO; undefined when the server does not know it. */
async function open(wire: Wire, name: string): Promise<Pick<Offer, "facts" | "sizes"> | undefined> {
  const query = encodeExportQuery({ name, items: [INFO.BLOCK_SIZE] });
  const replies = await ask(wire, OPTION.GO, query);
  const last = replies.at(-1);
  if (last?.type === REPLY.ERR_UNSUP) return undefined;
  if (last === undefined || last.type !== REPLY.ACK) throw refused(name, last);
  const infos = replies
    .filter(({ type }) => type === REPLY.INFO)
    .map((reply) => decodeInfo(reply.data));
  const facts = infos.find(({ type }) => type === INFO.EXPORT);
  if (facts === undefined) throw violation("the server says nothing about the export");
  const sizes = infos.find(({ type }) => type === INFO.BLOCK_SIZE);
  return {
    facts: decodeExportFacts(facts.data),
    sizes: sizes === undefined ? DEFAULT_SIZES : decodeSizeConstraints(sizes.data),
  };
}

/** By EXPORT_NAME, as older servers know it: one that has no such export hangs up. */
async function openByName(wire: Wire, name: string, noZeroes: boolean): Promise<Offer> {
  wire.send(encodeOption(OPTION.EXPORT_NAME, Buffer.from(name)));
  const facts = decodeExportFacts(await wire.take(10));
  await wire.take(noZeroes ? 0 : EXPORT_NAME_ZEROES_BYTES);
  return { facts, sizes: DEFAULT_SIZES, structured: false, contexts: [] };
}

function refused(name: string, reply: OptionReply | undefined): TesseraError {
  const words = reply?.data.toString("utf8") ?? "";
  const details = { subject: name };
  if (reply?.type === REPLY.ERR_UNKNOWN) {
    return peerError("export-unknown", `the NBD server has no export "${name}"`, details);
  }
  if (reply?.type === REPLY.ERR_TLS_REQD) {
    return peerError("tls-required", "the NBD server wants TLS, which is not spoken", details);
  }
  const isEnding = reply?.type === REPLY.ERR_SHUTDOWN;
  return errorOfReply(isEnding ? ERRNO.ESHUTDOWN : ERRNO.EINVAL, words, name);
}
