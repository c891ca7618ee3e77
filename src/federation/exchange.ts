import * as z from "zod";
import {
  errorFromReport,
  reportOf,
  TesseraError,
  type ErrorReport,
  type Json,
  type World,
} from "#core";
import type { AgentKey, AgentMessage, MessageHandler, PeerCard } from "./contract.ts";
import { forged, seal, unseal, type Envelope, type Sealed } from "./envelope.ts";
import { malformed } from "./json.ts";
import { ReplayCache } from "./replay.ts";

/** How far the clocks of two clouds may differ. */
const SKEW_MS = 60_000;
/** Longest time that a request may stay valid. */
const LIFE_MS_MAX = 600_000;
/** Requests of one cloud that may be handled at the same time. */
const HANDLED_MAX = 64;

const reportSchema = z.object({
  code: z
    .string()
    .regex(/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/)
    .max(100),
  fault: z.enum(["bug", "misuse", "peer", "corrupt", "environment"]),
  message: z.string().max(4000),
  subject: z.string().max(1000).exactOptional(),
  remedy: z.string().max(2000).exactOptional(),
});

export interface Request {
  readonly sealed: Sealed;
  readonly envelope: Envelope;
}

export interface ExchangeSettings {
  readonly key: AgentKey;
  /** Our own full address, as the carrier knows it now. */
  readonly address: () => string;
  /** The card of the cloud that has this address, if it is a peer. */
  readonly cardOf: (address: string) => PeerCard | undefined;
}

/** Signs, checks and answers messages, whatever carries them. */
export class Exchange {
  readonly #world: World;
  readonly #settings: ExchangeSettings;
  readonly #replays = new ReplayCache();
  readonly #handled = new Map<string, number>();

  constructor(world: World, settings: ExchangeSettings) {
    this.#world = world;
    this.#settings = settings;
  }

  /** A request that is ready to be carried. @throws `federation.too-large` */
  request(to: string, message: AgentMessage, timeout_ms: number): Request {
    const envelope: Envelope = {
      v: 1,
      kind: "request",
      from: this.#settings.address(),
      to,
      session: message.session,
      action: message.action,
      nonce: Buffer.from(this.#world.random.bytes(18)).toString("base64url"),
      expires_ms: Math.ceil(this.#world.clock.now() + Math.min(timeout_ms, LIFE_MS_MAX)),
      body: message.body,
    };
    return { envelope, sealed: seal(this.#settings.key, envelope) };
  }

  /**
   * Checks a request that the carrier says is from `from`, has it handled, and seals the answer.
   * Nothing is signed for anyone whose request does not pass the checks.
   *
   * @throws `federation.not-a-peer`, `federation.forged`, `federation.malformed`,
   * `federation.stale`, `federation.replayed`, `federation.busy`
   */
  async answer(from: string, sealed: Sealed, handler: MessageHandler): Promise<Sealed> {
    const card = this.#settings.cardOf(from);
    if (card === undefined) throw notPeer(from);
    const envelope = unseal(card.agentKey, sealed);
    this.#validate(from, envelope);
    return this.#handle(card.cloud, envelope, handler);
  }

  /**
   * The body of the answer to `request`.
   *
   * @throws `federation.refused`, `federation.forged`, `federation.malformed`
   */
  open(request: Request, sealed: Sealed): Json {
    const { to, from, session, action, nonce } = request.envelope;
    const card = this.#settings.cardOf(to);
    if (card === undefined) throw notPeer(to);
    const answer = unseal(card.agentKey, sealed);
    const bound =
      answer.kind !== "request" &&
      answer.from === to &&
      answer.to === from &&
      answer.session === session &&
      answer.action === action &&
      answer.nonce === nonce;
    if (!bound) throw forged("the answer belongs to another request", card.cloud);
    if (answer.kind === "answer") return answer.body;
    throw refusal(card.cloud, answer.body);
  }

  #validate(from: string, envelope: Envelope): void {
    const now_ms = this.#world.clock.now();
    if (envelope.kind !== "request") throw forged("an answer was sent as a request", from);
    if (envelope.from !== from) throw forged("it names another sender", from);
    if (envelope.to !== this.#settings.address()) throw forged("it is for somebody else", from);
    const left_ms = envelope.expires_ms - now_ms;
    if (left_ms < -SKEW_MS || left_ms > LIFE_MS_MAX + SKEW_MS) {
      throw new TesseraError("peer", "federation.stale", `a message of ${from} is out of time`, {
        subject: from,
        remedy: "set the clocks of both clouds right",
      });
    }
    this.#replays.use(from, envelope.nonce, envelope.expires_ms + SKEW_MS, now_ms);
  }

  async #handle(cloud: string, envelope: Envelope, handler: MessageHandler): Promise<Sealed> {
    const count = this.#handled.get(cloud) ?? 0;
    if (count >= HANDLED_MAX) {
      throw new TesseraError("peer", "federation.busy", `${cloud} asks too much at a time`, {
        subject: cloud,
      });
    }
    this.#handled.set(cloud, count + 1);
    try {
      const { session, action, body } = envelope;
      return this.#reply(envelope, "answer", await handler(cloud, { session, action, body }));
    } catch (error) {
      this.#world.log.log("info", "a request was refused", { cloud, error: reportOf(error) });
      return this.#reply(envelope, "refusal", { ...bounded(reportOf(error)) });
    } finally {
      this.#handled.set(cloud, (this.#handled.get(cloud) ?? 1) - 1);
    }
  }

  #reply(request: Envelope, kind: "answer" | "refusal", body: Json): Sealed {
    const { v, from, to, session, action, nonce, expires_ms } = request;
    const head = { v, kind, from: to, to: from, session, action, nonce, expires_ms };
    return seal(this.#settings.key, { ...head, body });
  }
}

/** An error of ours, cut to what a peer accepts. */
function bounded(report: ErrorReport): ErrorReport {
  const { code, fault, message, subject, remedy } = report;
  return {
    code,
    fault,
    message: message.slice(0, 4000),
    ...(subject === undefined ? {} : { subject: subject.slice(0, 1000) }),
    ...(remedy === undefined ? {} : { remedy: remedy.slice(0, 2000) }),
  };
}

function notPeer(from: string): TesseraError {
  return new TesseraError("peer", "federation.not-a-peer", `${from} is not a peer`, {
    subject: from,
    remedy: "exchange cards first",
  });
}

/** `federation.refused` with the handler's error as its cause. */
export function refusal(cloud: string, body: Json): TesseraError {
  const result = reportSchema.safeParse(body);
  if (!result.success) return malformed("no error report", result.error);
  const { code, message, remedy } = result.data;
  return new TesseraError("peer", "federation.refused", `${cloud} refused: ${message}`, {
    subject: code,
    cause: errorFromReport(result.data),
    ...(remedy === undefined ? {} : { remedy }),
  });
}
