import type { Clock } from "#core";
import { aheadBytes } from "./ahead.ts";
import type { DataSource } from "./contract.ts";
import { peerError } from "./errors.ts";
import { linkBitsPerSecond } from "./meter.ts";
import { SenderTunnel } from "./sender-tunnel.ts";
import type { OutgoingStream, SenderLink } from "./sender-stream.ts";

/** What the receiver says of the tunnel that it wants carried. */
export interface TunnelRequest {
  /** Its name. */
  readonly tunnel: string;
  /** The bytes that the receiver has. */
  readonly from: number;
}

type Source = Pick<SenderLink, "meter"> & { readonly source: DataSource };

interface Held {
  readonly id: string;
  readonly opening: Promise<SenderTunnel>;
}

/** The tunnel of a session, which outlives the connections that carry it. */
export class SenderTunnels {
  readonly #clock: Clock;
  #held: Held | undefined;
  #over: unknown;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Carries a hypervisor's stream to the receiver, and the receiver's replies back, until the stream
   * ends or either side gives it up. Of a tunnel that another connection may carry on nothing is lost.
   *
   * @throws `transfer.not-offered`, `transfer.tunnel-lost`, what the tunnel throws, and the reason
   *   why the stream has ended
   */
  async carry(stream: OutgoingStream, request: TunnelRequest, from: Source): Promise<void> {
    const held = this.#hold(request, from);
    try {
      const tunnel = await held.opening;
      await tunnel.carry(stream, request.from);
    } catch (cause) {
      await this.#letGo(held, cause, stream);
      throw cause;
    }
    this.#forget(held);
  }

  /** Where nobody carries it on it is over. */
  async #letGo(held: Held, cause: unknown, { isGivenUp }: OutgoingStream): Promise<void> {
    const tunnel = await held.opening.catch(() => undefined);
    if (isGivenUp) await tunnel?.close(cause);
    if (tunnel === undefined || tunnel.isOver) this.#forget(held);
  }

  #forget(held: Held): void {
    if (this.#held === held) this.#held = undefined;
  }

  /** The tunnel of that name, or a new one in the place of the former. */
  #hold({ tunnel: id, from }: TunnelRequest, { source, meter }: Source): Held {
    if (this.#over !== undefined) throw this.#over;
    if (this.#held?.id === id) return this.#held;
    if (from > 0) throw peerError("tunnel-lost", "the tunnel does not exist any more");
    if (source.openMemory === undefined) {
      throw peerError("not-offered", "no memory is offered in this session");
    }
    const former = this.#held;
    const ahead = (): number => aheadBytes(linkBitsPerSecond(meter.rate()));
    const opening = source.openMemory().then((tunnel) => {
      return new SenderTunnel(tunnel, ahead, this.#clock);
    });
    opening.catch(() => undefined);
    this.#held = { id, opening };
    void former?.opening.then(
      (tunnel) => tunnel.close(peerError("cancelled", "another tunnel takes its place")),
      () => undefined,
    );
    return this.#held;
  }

  /** The session is over. */
  close(reason: unknown): void {
    this.#over = reason;
    const held = this.#held;
    this.#held = undefined;
    void held?.opening.then(
      (tunnel) => tunnel.close(reason),
      () => undefined,
    );
  }
}
