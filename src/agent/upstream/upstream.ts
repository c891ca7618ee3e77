/** The registry that a cloud's repository has above itself; specified in doc/registries.md. */
import { resolve } from "node:path";
import {
  hasCode,
  referenceOf,
  TesseraError,
  type Component,
  type ComponentKind,
  type ComponentReference,
  type World,
} from "#core";
import type { Holder } from "#delta";
import {
  AUTH_FILE_BYTES_MAX,
  credentialsIn,
  formatReference,
  listComponents,
  listRepositories,
  pullComponent,
  pushComponent,
  tagOf,
  type CarryOptions,
  type ListedComponent,
  type RegistryAccess,
} from "#registry";
import type { ComponentStore } from "#repository";
import type { UpstreamConfig } from "../config.ts";
import type { Found } from "../help/find.ts";
import type { RateCache } from "../help/rates.ts";
import type { Signers } from "../signers.ts";

const SECRET_BYTES_MAX = 64 * 1024;
const ID_DIGITS = 12;
const TAG_LENGTH_MAX = 128;
/** Who waits for other clouds does not wait long for a registry that is away. */
const ATTEMPTS_MAX = 2;
const IDLE_MS = 15_000;
/** Below so many bytes a pull says little about the link. */
const MEASURED_BYTES_MIN = 2 ** 20;

export interface UpstreamTools {
  readonly world: World;
  readonly store: ComponentStore;
  readonly signers: Signers;
  readonly rates: RateCache;
  /** The cloud's state directory, to which its files are relative. */
  readonly root: string;
}

interface Wanted {
  readonly kind: ComponentKind;
  readonly name: string;
}

type UpstreamOptions = Pick<CarryOptions, "signal" | "onProgress">;

/** Components of a registry, below its name as `KIND/COMPONENT`. */
export class Upstream {
  /** How it is called among the clouds that hold a component. */
  readonly name: string;
  /** By which the rules for signatures know it. */
  readonly host: string;
  readonly pushes: boolean;
  readonly #config: UpstreamConfig;
  readonly #tools: UpstreamTools;

  constructor(config: UpstreamConfig, tools: UpstreamTools) {
    this.name = formatReference(config.registry);
    this.host = config.registry.host;
    this.pushes = config.push;
    this.#config = config;
    this.#tools = tools;
  }

  /** As one that holds components, by what was measured or else what is configured. */
  async holder(): Promise<Holder> {
    const { pricePerGB, link } = this.#config;
    const configured = link === undefined ? {} : { bitsPerSecond: link };
    return {
      cloud: this.name,
      pricePerGB,
      ...configured,
      ...(await this.#tools.rates.of(this.name)),
    };
  }

  /** All that its catalogue tells. @throws what listing throws, `registry.catalogue-missing` too */
  async list(options: UpstreamOptions): Promise<Component[]> {
    const { world } = this.#tools;
    const at = { target: this.#config.registry, access: await this.#access() };
    const names = await listRepositories(world, at, this.#patience(options));
    const all: Component[] = [];
    for (const name of names) {
      const listed = await this.#listed(name, options);
      all.push(...listed.map(({ component }) => component));
    }
    return all;
  }

  /** What it has of these names. */
  async find(wanted: readonly Wanted[], options: UpstreamOptions = {}): Promise<Found[]> {
    const found: Found[] = [];
    for (const one of wanted) {
      const place = placeOf(this.#config.registry.name, one);
      const listed = place === undefined ? [] : await this.#listed(place, options);
      for (const { component, signatures } of listed) {
        const { kind, name } = component.description;
        if (kind !== one.kind || name !== one.name) continue;
        found.push({ cloud: this.name, reference: referenceOf(component), signatures });
      }
    }
    return found;
  }

  /**
   * Takes one component, by its manifest's digest.
   *
   * @returns the bytes that came; undefined where the registry does not have it
   * @throws `agent.signature-refused`, and what pulling throws
   */
  async pull(reference: ComponentReference, options: UpstreamOptions): Promise<number | undefined> {
    const { world, store, signers } = this.#tools;
    const place = placeOf(this.#config.registry.name, reference);
    if (place === undefined) return undefined;
    const target = { host: this.host, name: place, digest: reference.manifest.digest };
    const name = `${reference.name} ${reference.version}`;
    const begin_ms = world.clock.monotonic();
    try {
      const { movedBytes } = await pullComponent(
        world,
        store,
        { target, access: await this.#access() },
        {
          ...this.#patience(options),
          admits: async (offered, signatures) => {
            if (offered.id !== reference.id) throw anotherImage(this.name, reference);
            await signers.require(this.host, { ...offered, name }, signatures);
          },
        },
      );
      await this.#measure(movedBytes, world.clock.monotonic() - begin_ms);
      return movedBytes;
    } catch (error) {
      if (hasCode(error, "registry.manifest-not-found")) return undefined;
      throw error;
    }
  }

  /**
   * Sends a held component there, under a tag of its own.
   *
   * @throws `agent.upstream-name` (misuse) for a name that no registry takes; what pushing throws
   */
  async push(component: Component, options: UpstreamOptions): Promise<string> {
    const { world, store } = this.#tools;
    const name = placeOf(this.#config.registry.name, component.description);
    if (name === undefined) throw nameless(this.name, component.description);
    const digits = component.id.slice("sha256:".length).slice(0, ID_DIGITS);
    const version = tagOf(component.description.version).slice(0, TAG_LENGTH_MAX - ID_DIGITS - 1);
    const target = { host: this.host, name, tag: `${version}-${digits}` };
    const at = { target, access: await this.#access() };
    return (await pushComponent(world, store, component, at, this.#patience(options))).reference;
  }

  async #listed(name: string, options: UpstreamOptions): Promise<ListedComponent[]> {
    const at = { target: { host: this.host, name }, access: await this.#access() };
    return await listComponents(this.#tools.world, at, this.#patience(options));
  }

  #patience(options: UpstreamOptions): CarryOptions {
    return { idle_ms: IDLE_MS, attemptsMax: ATTEMPTS_MAX, ...options };
  }

  async #measure(movedBytes: number, took_ms: number): Promise<void> {
    if (movedBytes < MEASURED_BYTES_MIN || took_ms <= 0) return;
    const bitsPerSecond = (movedBytes * 8_000) / took_ms;
    await this.#tools.rates.note(this.name, { lanes: 1, bitsPerSecond });
  }

  /** Read each time, so that a secret that was changed counts at once. */
  async #access(): Promise<RegistryAccess> {
    const { registry, username, passwordFile, authFile, caFile, plainHttp } = this.#config;
    const [password, auths, ca] = [
      await this.#text(passwordFile, SECRET_BYTES_MAX),
      await this.#text(authFile, AUTH_FILE_BYTES_MAX),
      await this.#text(caFile, AUTH_FILE_BYTES_MAX),
    ];
    const credentials =
      username !== undefined && password !== undefined
        ? { username, password: password.replace(/\r?\n$/, "") }
        : auths === undefined
          ? undefined
          : credentialsIn(auths, registry);
    return {
      ...(credentials === undefined ? {} : { credentials }),
      ...(ca === undefined ? {} : { ca }),
      plainHttp,
    };
  }

  async #text(path: string | undefined, bytesMax: number): Promise<string | undefined> {
    if (path === undefined) return undefined;
    const { world, root } = this.#tools;
    const bytes = await world.files.readFile(resolve(root, path), bytesMax);
    return Buffer.from(bytes).toString("utf8");
  }
}

const OCI_PART = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

/** Undefined for a component's name that is none of a registry's. */
function placeOf(prefix: string, { kind, name }: Wanted): string | undefined {
  return OCI_PART.test(name) ? `${prefix}/${kind}/${name}` : undefined;
}

function anotherImage(registry: string, { name, id }: ComponentReference): TesseraError {
  const message = `${registry} has a manifest of ${name} that names another image`;
  return new TesseraError("corrupt", "registry.manifest-corrupt", message, { subject: id });
}

function nameless(registry: string, { name }: Wanted): TesseraError {
  const message = `${registry} cannot hold "${name}": no registry takes this name`;
  return new TesseraError("misuse", "agent.upstream-name", message, {
    subject: name,
    remedy: "give the component a name of letters and digits, separated by . _ or -",
  });
}
