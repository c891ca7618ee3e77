/** Overheads of the wire in bytes. */
const FRAME_HEADER_BYTES = 10;
const FRAME_RAW_BYTES_MAX = 2 ** 20;
const BYTES_PREFIX_BYTES = 12;
const TLS_RECORD_BYTES = 16_384;
const TLS_OVERHEAD_BYTES = 22;
const TCP_SEGMENT_BYTES = 1_448;
/** Ethernet, IPv4, TCP with time stamps. */
const PACKET_OVERHEAD_BYTES = 66;
/** One acknowledgement comes back for so many segments. */
const SEGMENTS_PER_ACKNOWLEDGEMENT = 2;
/** A PING goes with so many bytes, and its PONG comes in a packet of its own. */
const BYTES_PER_MARK = 32 * 1024;
const MARK_BYTES = 18 + 18 + TLS_OVERHEAD_BYTES + PACKET_OVERHEAD_BYTES;
/** What a PACK frame says of the pack, of each segment and of each reference, at most about. */
const PACK_FIXED_BYTES = 16;
const PACK_SEGMENT_BYTES = 5;
const PACK_REFERENCE_BYTES = 7;

/** A pack to be sent, as far as its size on the wire depends on it. */
export interface PackToSend {
  readonly rawBytes: number;
  /** Contents alike enough to be predicted from each other's samples, for instance `patched`. */
  readonly kind: string;
  readonly segments: number;
  readonly references: number;
  /** The encoded size where the pack is in the cache. */
  readonly cachedBytes?: number;
}

/** A pack, or a part of one, that was encoded to see how small it becomes. */
export interface PackSample {
  readonly kind: string;
  /** Above 0. */
  readonly rawBytes: number;
  readonly encodedBytes: number;
}

export interface WireEstimate {
  /** On the wire, in both directions, with the overheads of frames, TLS and TCP. */
  readonly wireBytes: number;
  readonly encodedBytes: number;
  /** Share of the raw bytes, 0 to 1, whose encoded size is known rather than estimated. */
  readonly knownShare: number;
}

/**
 * Predicts what packs take on the wire: cached packs by their size, others by the ratio of the
 * samples of their kind, or of all samples where their kind has none.
 *
 * @param ratio encoded bytes per raw byte where there is no sample at all
 */
export function estimateBytes(
  packs: readonly PackToSend[],
  samples: readonly PackSample[],
  ratio = 1,
): WireEstimate {
  const ratios = ratiosOf(samples);
  const all = ratioOf(samples) ?? ratio;
  const sum = { encoded: 0, payload: 0, raw: 0, known: 0 };
  for (const pack of packs) {
    const guess = Math.round(pack.rawBytes * (ratios.get(pack.kind) ?? all));
    const encoded = pack.cachedBytes ?? guess;
    sum.encoded += encoded;
    sum.payload += framedBytes(pack, encoded);
    sum.raw += pack.rawBytes;
    if (pack.cachedBytes !== undefined) sum.known += pack.rawBytes;
  }
  const knownShare = sum.raw === 0 ? 1 : sum.known / sum.raw;
  return { wireBytes: wireBytesOf(sum.payload), encodedBytes: sum.encoded, knownShare };
}

/** A pack's encoded bytes with its PACK frame and the frames that carry them. */
function framedBytes(pack: PackToSend, encodedBytes: number): number {
  const description =
    FRAME_HEADER_BYTES +
    PACK_FIXED_BYTES +
    pack.segments * PACK_SEGMENT_BYTES +
    pack.references * PACK_REFERENCE_BYTES;
  const frames = Math.ceil(encodedBytes / FRAME_RAW_BYTES_MAX);
  return description + encodedBytes + frames * (FRAME_HEADER_BYTES + BYTES_PREFIX_BYTES);
}

/**
 * Bytes of frames with what PINGs, TLS 1.3, TCP over IPv4 (with time stamps) and Ethernet add to
 * them, and the acknowledgements that come back: what the counters of an interface show.
 */
export function wireBytesOf(payloadBytes: number): number {
  const records = Math.ceil(payloadBytes / TLS_RECORD_BYTES);
  const stream = payloadBytes + records * TLS_OVERHEAD_BYTES;
  const segments = Math.ceil(stream / TCP_SEGMENT_BYTES);
  const packets = segments + Math.ceil(segments / SEGMENTS_PER_ACKNOWLEDGEMENT);
  const marks = Math.floor(payloadBytes / BYTES_PER_MARK);
  return stream + packets * PACKET_OVERHEAD_BYTES + marks * MARK_BYTES;
}

function ratiosOf(samples: readonly PackSample[]): Map<string, number> {
  const ratios = new Map<string, number>();
  for (const kind of new Set(samples.map((sample) => sample.kind))) {
    const ratio = ratioOf(samples.filter((sample) => sample.kind === kind));
    if (ratio !== undefined) ratios.set(kind, ratio);
  }
  return ratios;
}

function ratioOf(samples: readonly PackSample[]): number | undefined {
  const raw = samples.reduce((sum, sample) => sum + sample.rawBytes, 0);
  if (raw === 0) return undefined;
  return samples.reduce((sum, sample) => sum + sample.encodedBytes, 0) / raw;
}
