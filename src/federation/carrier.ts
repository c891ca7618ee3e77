import type { MessageAction } from "./contract.ts";
import type { Sealed } from "./envelope.ts";

/** What a carrier reports. Addresses are those that the carrier itself vouches for. */
export interface CarrierEvents {
  /** `offerText` is absent when the presence carries none or is stale. */
  present(address: string, offerText: string | undefined): void;
  gone(address: string): void;
  /** All presence is unknown from now on. */
  lost(): void;
  /** A request came; resolves with its answer, or throws why there is none. */
  asked(from: string, request: Sealed): Promise<Sealed>;
}

export interface Parcel {
  readonly to: string;
  readonly session: string;
  readonly action: MessageAction;
  readonly sealed: Sealed;
}

/** Carries presence and sealed messages, and knows nothing of their content. */
export interface Carrier {
  /** Our full address; it stays the same for the carrier's life where the network allows it. */
  address(): string;
  start(events: CarrierEvents): Promise<void>;
  stop(): Promise<void>;
  /** Puts the offer into our presence, from now on. */
  announce(offerText: string): void;
  /**
   * Delivers a request at most once and resolves with its answer.
   *
   * @throws `federation.unreachable`, `federation.timeout`, `federation.refused`
   */
  ask(parcel: Parcel, timeout_ms: number): Promise<Sealed>;
}
