import { TesseraError } from "#core";

/**
 * Remembers used nonces until they have expired. When a sender fills its share, its next message
 * is refused: forgetting a nonce early would let its message be replayed.
 */
export class ReplayCache {
  readonly #bySender = new Map<string, Map<string, number>>();
  readonly #perSenderMax: number;

  constructor(perSenderMax = 10_000) {
    this.#perSenderMax = perSenderMax;
  }

  /**
   * @param expires_ms until when the nonce must be remembered
   * @throws `federation.replayed`, `federation.busy`
   */
  use(sender: string, nonce: string, expires_ms: number, now_ms: number): void {
    const used = this.#bySender.get(sender) ?? new Map<string, number>();
    this.#bySender.set(sender, used);
    if (used.has(nonce)) {
      throw new TesseraError("peer", "federation.replayed", "a message was sent twice", {
        subject: sender,
      });
    }
    if (used.size >= this.#perSenderMax) forgetExpired(used, now_ms);
    if (used.size >= this.#perSenderMax) {
      throw new TesseraError("peer", "federation.busy", `${sender} sends too many messages`, {
        subject: sender,
        remedy: "wait a minute",
      });
    }
    used.set(nonce, expires_ms);
  }
}

function forgetExpired(used: Map<string, number>, now_ms: number): void {
  for (const [nonce, expires_ms] of used) if (expires_ms < now_ms) used.delete(nonce);
}
