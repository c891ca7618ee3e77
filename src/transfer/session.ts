import type { Digest, Random, TesseraError, World } from "#core";
import type { CompressionMode } from "./compression.ts";
import { busyShare } from "./busy.ts";
import type { Connection } from "./connection.ts";
import type { DataSource, TransferProgress } from "./contract.ts";
import { peerError } from "./errors.ts";
import { rateLimiter, type RateLimiter } from "./limiter.ts";
import { LinkMeter } from "./meter.ts";
import { UserDataLedger } from "./user-data-ledger.ts";
import { newEncoders, type Encoders } from "./encoders.ts";
import { SenderTunnels } from "./send-memory.ts";
import type { SenderSession } from "./sender.ts";
import type { ResumeStore } from "./handshake.ts";
import {
  confirmToken,
  decodeTokens,
  encodeTokens,
  firstTokens,
  laneToken,
  newToken,
  presentToken,
  type LaneTokens,
} from "./tokens.ts";

/** One session that a sender offers to one receiver. */
export interface SessionOffer {
  /** 1 to 128 printable ASCII characters; the migration's id. */
  readonly id: string;
  /** From {@link newToken}; opens the session once. */
  readonly token: string;
  readonly peerCertificate: Digest;
  readonly source: DataSource;
  /** Above 0; over all streams of the session. */
  readonly bytesPerSecondMax?: number;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** Keeps the token state, so that a restarted agent can offer the session again. */
  readonly resume?: ResumeStore;
  /** Default `auto`. */
  readonly compression?: CompressionMode;
  /** Processors that are free to compress, above 0; default 1. */
  readonly cores?: number;
  /** What the link is thought to carry, until it is measured. */
  readonly expectedBitsPerSecond?: number;
}

export function refuseUnknown(id: string): never {
  throw peerError("not-offered", "the session is not offered here", { subject: id });
}

/** A session at its listener: tokens and connection of every lane, and what the streams share. */
export class OfferedSession implements SenderSession {
  readonly peerCertificate: Digest;
  readonly source: DataSource;
  readonly ledger = new UserDataLedger();
  readonly tunnels: SenderTunnels;
  readonly compression: CompressionMode;
  readonly limiter: RateLimiter | undefined;
  readonly meter: LinkMeter;
  readonly cores: number;
  readonly encoders: Encoders;
  readonly onProgress: (progress: TransferProgress) => void;
  readonly #random: Random;
  readonly #offer: SessionOffer;
  #tokens: LaneTokens;
  readonly #connections = new Map<number, Connection>();
  #pastWireBytes = 0;
  #over: TesseraError | undefined;
  #saved: Promise<void> = Promise.resolve();

  private constructor(world: World, offer: SessionOffer, tokens: LaneTokens) {
    const { bytesPerSecondMax } = offer;
    this.#offer = offer;
    this.#random = world.random;
    this.#tokens = tokens;
    this.peerCertificate = offer.peerCertificate;
    this.source = offer.source;
    this.compression = offer.compression ?? "auto";
    this.onProgress = offer.onProgress ?? (() => undefined);
    this.tunnels = new SenderTunnels(world.clock);
    this.meter = new LinkMeter(world.clock, {
      bytesPerSecondMax,
      expectedBitsPerSecond: offer.expectedBitsPerSecond,
      busyShare: busyShare(),
    });
    this.limiter =
      bytesPerSecondMax === undefined ? undefined : rateLimiter(world.clock, bytesPerSecondMax);
    this.cores = offer.cores ?? 1;
    this.encoders = newEncoders(this.cores, world.clock);
  }

  /** @throws `transfer.state-invalid` (corrupt) */
  static async open(world: World, offer: SessionOffer): Promise<OfferedSession> {
    const kept = await offer.resume?.load();
    const first = new Map([[0, firstTokens(offer.token)]]);
    const tokens = kept === undefined ? first : decodeTokens(kept);
    return new OfferedSession(world, offer, tokens);
  }

  /**
   * Accepts a token: this connection takes its lane over. The state changes before anything is
   * awaited, so of two that present one token at once each gets its own turn.
   *
   * @throws `transfer.token-refused`
   */
  async present(connection: Connection, token: string, lane: number): Promise<string> {
    if (this.#over !== undefined) throw this.#over;
    const fresh = newToken(this.#random);
    const state = this.#tokens.get(lane) ?? firstTokens(laneToken(this.#offer.token, lane));
    const next = presentToken(state, token, fresh);
    if (next === undefined) {
      throw peerError("token-refused", "the token was used before or is not this session's", {
        subject: this.#offer.id,
      });
    }
    this.#tokens = new Map([...this.#tokens, [lane, next]]);
    this.#replace(connection, lane);
    await this.#save();
    return fresh;
  }

  /** The peer holds the fresh token. @throws the reason when the connection was superseded */
  async confirm(connection: Connection, fresh: string, lane: number): Promise<void> {
    connection.signal.throwIfAborted();
    this.#tokens = new Map([...this.#tokens, [lane, confirmToken(fresh)]]);
    await this.#save();
  }

  wireBytes(): number {
    const live = [...this.#connections.values()].map((connection) => connection.wireBytes());
    return live.reduce((sum, bytes) => sum + bytes, this.#pastWireBytes);
  }

  end(reason: TesseraError): void {
    this.#over = reason;
    this.encoders.threads.close(reason);
    this.tunnels.close(reason);
    for (const connection of this.#connections.values()) connection.end(reason);
  }

  /** One save after the other, each of the state of that moment. */
  async #save(): Promise<void> {
    const save = async () => this.#offer.resume?.save(encodeTokens(this.#tokens));
    const saved = this.#saved.then(save);
    this.#saved = saved.catch(() => undefined);
    await saved;
  }

  #replace(connection: Connection, lane: number): void {
    const former = this.#connections.get(lane);
    former?.end(peerError("superseded", "a newer connection of the lane took over"));
    this.#pastWireBytes += former?.wireBytes() ?? 0;
    this.#connections.set(lane, connection);
  }
}
