import { join } from "node:path";
import { TesseraError, type FileSystem } from "#core";
import { encodeCard, parseCard, type PeerCard } from "#federation";

const CARD_BYTES_MAX = 2 ** 18;

/** The clouds that this one trusts: the allow-list, one card a file. */
export interface Peers {
  list(): readonly PeerCard[];
  find(cloud: string): PeerCard | undefined;
  add(card: PeerCard): Promise<void>;
  /** @throws `agent.peer-unknown` */
  remove(cloud: string): Promise<void>;
}

export interface PeersOptions {
  readonly files: FileSystem;
  readonly directory: string;
  /** Our own name, which no peer may have. */
  readonly cloud: string;
  /** Puts a change in force, before it is kept. */
  changed(cards: readonly PeerCard[]): Promise<void>;
}

export async function openPeers(options: PeersOptions): Promise<Peers> {
  const { files, directory } = options;
  const path = (cloud: string): string => join(directory, `${cloud}.json`);
  let cards: readonly PeerCard[] = await readCards(files, directory);

  /** A card that cannot be put in force, for instance with a bad authority, is not kept. */
  async function enforce(next: readonly PeerCard[]): Promise<void> {
    const before = cards;
    cards = next;
    try {
      await options.changed(next);
    } catch (error) {
      cards = before;
      throw error;
    }
  }

  return {
    list: () => cards,
    find: (cloud) => cards.find((card) => card.cloud === cloud),
    add: async (card) => {
      refuseClash(options.cloud, cards, card);
      await enforce([...cards.filter(({ cloud }) => cloud !== card.cloud), card]);
      await files.makeDirectory(directory, 0o700);
      await files.writeFileAtomic(path(card.cloud), encodeCard(card), 0o600);
    },
    remove: async (cloud) => {
      if (!cards.some((card) => card.cloud === cloud)) throw unknown(cloud);
      await files.remove(path(cloud));
      await enforce(cards.filter((card) => card.cloud !== cloud));
    },
  };
}

async function readCards(files: FileSystem, directory: string): Promise<PeerCard[]> {
  const names = (await files.list(directory)).filter((name) => name.endsWith(".json"));
  const texts = names.map((name) => files.readFile(join(directory, name), CARD_BYTES_MAX));
  return (await Promise.all(texts)).map((text) => parseCard(Buffer.from(text).toString("utf8")));
}

/** One name, one key, one domain: a second card must not take over the first one's. */
function refuseClash(own: string, cards: readonly PeerCard[], card: PeerCard): void {
  const clash = cards.find(
    ({ cloud, jid, agentKey }) =>
      cloud !== card.cloud && (jid === card.jid || agentKey === card.agentKey),
  );
  const other = cards.find(
    ({ cloud, agentKey }) => cloud === card.cloud && agentKey !== card.agentKey,
  );
  const why =
    card.cloud === own
      ? "it names this cloud"
      : clash !== undefined
        ? `cloud "${clash.cloud}" has the same address or key`
        : other !== undefined
          ? `cloud "${card.cloud}" is trusted with another key`
          : undefined;
  if (why === undefined) return;
  throw new TesseraError("misuse", "agent.peer-clash", `the card is not added: ${why}`, {
    subject: card.cloud,
    remedy: "remove the other peer first, if the new card is the right one",
  });
}

function unknown(cloud: string): TesseraError {
  return new TesseraError("misuse", "agent.peer-unknown", `no peer "${cloud}" is trusted here`, {
    subject: cloud,
    remedy: 'see "tessera agent peers"',
  });
}
