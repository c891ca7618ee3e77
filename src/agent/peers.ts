import { join } from "node:path";
import { reportOf, TesseraError, type World } from "#core";
import { encodeCard, parseCard, validateCard, type PeerCard } from "#federation";
import { requireConstrainedCa } from "#xmpp";
import { createTurns } from "./turns.ts";

const CARD_BYTES_MAX = 2 ** 18;
const END = ".json";

/** The clouds that this one trusts: the allow-list, one card a file. */
export interface Peers {
  list(): readonly PeerCard[];
  find(cloud: string): PeerCard | undefined;
  /**
   * Puts a card in force and keeps it; another card of the same cloud and key is replaced.
   *
   * @throws `federation.card-invalid`, `agent.peer-clash`, `xmpp.ca-unconstrained` (misuse), and
   *   what putting it in force throws; the card is not kept then
   */
  add(card: PeerCard): Promise<void>;
  /** @throws `agent.peer-unknown` */
  remove(cloud: string): Promise<void>;
}

export interface PeersOptions {
  readonly world: World;
  readonly directory: string;
  /** Our own, with which no peer's may clash. */
  readonly own: Pick<PeerCard, "cloud" | "domain" | "agentKey">;
  /** Puts a change in force, before it is kept. */
  changed(cards: readonly PeerCard[]): Promise<void>;
}

/** A card that cannot be read is logged and left out: that cloud is not trusted. */
export async function openPeers(options: PeersOptions): Promise<Peers> {
  const { world, directory } = options;
  const { files } = world;
  const turns = createTurns();
  const path = (cloud: string): string => join(directory, `${cloud}${END}`);
  let cards: readonly PeerCard[] = await readCards(world, directory);

  async function add(given: PeerCard): Promise<void> {
    const card = validateCard(given);
    refuseClash(options.own, cards, card);
    if (card.xmppCa !== undefined) await requireConstrainedCa(world, card.xmppCa, card.domain);
    const before = cards;
    cards = [...before.filter(({ cloud }) => cloud !== card.cloud), card];
    try {
      await options.changed(cards);
      await files.makeDirectory(directory, 0o700);
      await files.writeFileAtomic(path(card.cloud), encodeCard(card), 0o600);
    } catch (error) {
      cards = before;
      await options.changed(before).catch((cause: unknown) => {
        world.log.log("error", "the peers of before are not in force", { ...reportOf(cause) });
      });
      throw error;
    }
  }

  /** Whatever fails, a cloud that is trusted no longer is not trusted again. */
  async function remove(cloud: string): Promise<void> {
    if (!cards.some((card) => card.cloud === cloud)) throw unknown(cloud);
    await files.remove(path(cloud));
    cards = cards.filter((card) => card.cloud !== cloud);
    await options.changed(cards);
  }

  return {
    list: () => cards,
    find: (cloud) => cards.find((card) => card.cloud === cloud),
    add: (card) => turns.take("peers", () => add(card)),
    remove: (cloud) => turns.take("peers", () => remove(cloud)),
  };
}

async function readCards(world: World, directory: string): Promise<PeerCard[]> {
  const names = (await world.files.list(directory)).filter((name) => name.endsWith(END));
  const cards = await Promise.all(names.map((name) => readCard(world, directory, name)));
  return cards.filter((card) => card !== undefined);
}

async function readCard(
  { files, log }: World,
  directory: string,
  name: string,
): Promise<PeerCard | undefined> {
  const path = join(directory, name);
  try {
    const bytes = await files.readFile(path, CARD_BYTES_MAX);
    const card = parseCard(Buffer.from(bytes).toString("utf8"));
    // Under another name it would come back after it has been removed.
    if (`${card.cloud}${END}` === name) return card;
    log.log("error", "a peer's card is left out: it is not of this name", { path });
  } catch (error) {
    log.log("error", "a peer's card is left out", { path, ...reportOf(error) });
  }
  return undefined;
}

/** One name, one key, one domain: a second card must not take over the first one's. */
function refuseClash(own: PeersOptions["own"], cards: readonly PeerCard[], card: PeerCard): void {
  const why = [clashWithOwn(own, card), ...cards.map((other) => clashWith(other, card))].find(
    (reason) => reason !== undefined,
  );
  if (why === undefined) return;
  throw new TesseraError("misuse", "agent.peer-clash", `the card is not added: ${why}`, {
    subject: card.cloud,
    remedy: "remove the other peer first, if the new card is the right one",
  });
}

function clashWithOwn(own: PeersOptions["own"], card: PeerCard): string | undefined {
  if (own.cloud === card.cloud) return "it names this cloud";
  if (own.agentKey === card.agentKey) return "it has the key of this cloud";
  return overlap(own.domain, card.domain) ? "it has the domain of this cloud" : undefined;
}

function clashWith(other: PeerCard, card: PeerCard): string | undefined {
  const sameKey = other.agentKey === card.agentKey;
  if (other.cloud === card.cloud) {
    return sameKey ? undefined : `cloud "${other.cloud}" is trusted with another key`;
  }
  return sameKey || overlap(other.domain, card.domain)
    ? `cloud "${other.cloud}" has the same domain or key`
    : undefined;
}

/** The authority of a domain vouches for what is below it too (RFC 5280, 4.2.1.10). */
function overlap(one: string, other: string): boolean {
  return one === other || one.endsWith(`.${other}`) || other.endsWith(`.${one}`);
}

function unknown(cloud: string): TesseraError {
  return new TesseraError("misuse", "agent.peer-unknown", `no peer "${cloud}" is trusted here`, {
    subject: cloud,
    remedy: 'see "tessera agent peers"',
  });
}
