/** HELLO, WELCOME, READY from both ends of a connection; see protocol.ts. */
import type { Digest } from "#core";
import type { Connection } from "./connection.ts";
import { peerError, violation } from "./errors.ts";
import {
  HelloSchema,
  WelcomeSchema,
  decodeJson,
  encodeJson,
  type Hello,
  type Welcome,
} from "./messages.ts";
import { CONTENT_VERSIONS, FEATURES, TYPE } from "./protocol.ts";

/** Keeps one short text durably for a session, so that a restarted agent can resume. */
export interface ResumeStore {
  load(): Promise<string | undefined>;
  /** Returns when the text is durable. */
  save(text: string): Promise<void>;
}

export type Role = "receiver" | "sender";

/** The content version for both, or undefined where there is none. */
export function chooseVersion(theirs: { min: number; max: number }): number | undefined {
  const highest = Math.min(theirs.max, CONTENT_VERSIONS.max);
  return highest >= Math.max(theirs.min, CONTENT_VERSIONS.min) ? highest : undefined;
}

/** The dialler's part. @throws the listener's refusal; `transfer.stalled`; `transfer.link-lost` */
export async function dialHandshake(
  connection: Connection,
  hello: {
    readonly role: Role;
    readonly session: string;
    readonly token: string;
    readonly lane?: number;
  },
  save: (token: string) => Promise<void>,
): Promise<Welcome> {
  const { role, session, token, lane = 0 } = hello;
  const content: Hello = {
    protocol: CONTENT_VERSIONS,
    features: [...FEATURES],
    role,
    session,
    token,
    ...(lane === 0 ? {} : { lane }),
  };
  connection.send(TYPE.HELLO, 0, encodeJson(content));
  const welcome = decodeJson(await connection.next([TYPE.WELCOME]), WelcomeSchema);
  const { min, max } = CONTENT_VERSIONS;
  if (welcome.protocol < min || welcome.protocol > max) {
    throw violation(`content version ${welcome.protocol} was not offered`);
  }
  await save(welcome.token);
  connection.send(TYPE.READY, 0);
  return welcome;
}

/** What a listener decides about a HELLO; each throws the refusal. */
export interface Admission<Session> {
  /** The session by its id. @throws `transfer.not-offered` */
  find(session: string): Session;
  /** The certificate that this session's peer must show. */
  certificateOf(session: Session): Digest;
  /** Accepts the token and returns a fresh one, durably. @throws `transfer.token-refused` */
  present(session: Session, token: string, lane: number): Promise<string>;
  /** The peer holds the fresh token. */
  confirm(session: Session, fresh: string, lane: number): Promise<void>;
}

/**
 * The listener's part for a connection whose peer showed `certificate`.
 *
 * @throws the refusal, which the caller sends by ending the connection with it
 */
export async function listenHandshake<Session>(
  connection: Connection,
  certificate: Digest,
  admission: Admission<Session>,
): Promise<Session> {
  const hello = decodeJson(await connection.next([TYPE.HELLO]), HelloSchema);
  const session = admission.find(hello.session);
  if (admission.certificateOf(session) !== certificate) {
    throw peerError("certificate-mismatch", "the certificate is not this session's");
  }
  const protocol = chooseVersion(hello.protocol);
  if (protocol === undefined) {
    const { min, max } = CONTENT_VERSIONS;
    throw peerError("version-unsupported", `content versions ${min} to ${max} are spoken here`);
  }
  if (hello.role !== "receiver") {
    throw peerError("role-unsupported", "only receivers are served here");
  }
  const { lane = 0 } = hello;
  const token = await admission.present(session, hello.token, lane);
  const features = FEATURES.filter((name) => hello.features.includes(name));
  connection.send(TYPE.WELCOME, 0, encodeJson({ protocol, features, token } satisfies Welcome));
  await connection.next([TYPE.READY]);
  await admission.confirm(session, token, lane);
  return session;
}
