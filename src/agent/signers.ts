/** Whose signatures count here, and whose are required from whom. */
import { createPublicKey } from "node:crypto";
import { join } from "node:path";
import { reportOf, TesseraError, type ComponentSignature, type Digest, type World } from "#core";
import { fingerprintOf, verifySignature } from "#federation";
import { signedBytes, type Signable } from "#repository";

const KEY_BYTES_MAX = 16 * 1024;
const END = ".pem";

/** By source (a cloud's name, a registry's host, or `any`): names of signers, of whom one must sign. */
export type SignatureRules = Readonly<Record<string, readonly string[]>>;

export interface Signer {
  readonly name: string;
  /** SPKI DER in base64. */
  readonly publicKey: string;
  readonly key: Digest;
}

export interface CheckedSignature {
  readonly key: Digest;
  /** Absent for a key that is not known here. */
  readonly signer?: string;
  /** Absent where the key is not known. */
  readonly valid?: boolean;
}

/**
 * The signers of a cloud: public keys in a directory, `NAME.pem` each, read when they are needed, so
 * that adding one takes no restart.
 */
export class Signers {
  readonly #world: World;
  readonly #directory: string;
  readonly #rules: ReadonlyMap<string, readonly string[]>;

  constructor(world: World, directory: string, rules: SignatureRules) {
    this.#world = world;
    this.#directory = directory;
    this.#rules = new Map(Object.entries(rules));
  }

  /** A key that cannot be read is logged and left out: then its signatures do not count. */
  async list(): Promise<Signer[]> {
    const names = await this.#world.files.list(this.#directory);
    const found = await Promise.all(
      names.filter((name) => name.endsWith(END)).map((name) => this.#read(name)),
    );
    return found.filter((signer) => signer !== undefined);
  }

  async check(
    component: Signable,
    signatures: readonly ComponentSignature[],
  ): Promise<CheckedSignature[]> {
    const signers = await this.list();
    const bytes = signedBytes(component);
    return signatures.map(({ key, signature }) => {
      const signer = signers.find((candidate) => candidate.key === key);
      if (signer === undefined) return { key };
      return {
        key,
        signer: signer.name,
        valid: verifySignature(signer.publicKey, bytes, signature),
      };
    });
  }

  /** True when what comes from `source` must be signed. */
  requires(source: string): boolean {
    return this.#required(source).length > 0;
  }

  /** Why a component from `source` is not taken; undefined when it is. */
  async objection(
    source: string,
    component: Signable & { readonly name: string },
    signatures: readonly ComponentSignature[],
  ): Promise<string | undefined> {
    const required = this.#required(source);
    if (required.length === 0) return undefined;
    const checked = await this.check(component, signatures);
    const good = checked.filter(({ valid }) => valid === true);
    if (good.some(({ signer }) => signer !== undefined && required.includes(signer))) {
      return undefined;
    }
    const wrong = checked.find(({ valid }) => valid === false)?.signer;
    const why = wrong === undefined ? "" : `; the signature of ${wrong} is not of it`;
    return `requires that ${component.name} is signed by ${required.join(" or ")}${why}`;
  }

  /** @throws `agent.signature-refused` (misuse) */
  async require(
    source: string,
    component: Signable & { readonly name: string },
    signatures: readonly ComponentSignature[],
  ): Promise<void> {
    const objection = await this.objection(source, component, signatures);
    if (objection === undefined) return;
    throw new TesseraError("misuse", "agent.signature-refused", `this cloud ${objection}`, {
      subject: component.id,
      remedy: 'have it signed, or change "signatures" in cloud.yaml',
    });
  }

  #required(source: string): readonly string[] {
    return this.#rules.get(source) ?? this.#rules.get("any") ?? [];
  }

  async #read(fileName: string): Promise<Signer | undefined> {
    const path = join(this.#directory, fileName);
    try {
      const pem = Buffer.from(await this.#world.files.readFile(path, KEY_BYTES_MAX));
      const key = createPublicKey(pem);
      if (key.asymmetricKeyType !== "ed25519") throw new TypeError("it is no Ed25519 key");
      const publicKey = key.export({ type: "spki", format: "der" }).toString("base64");
      const name = fileName.slice(0, -END.length);
      return { name, publicKey, key: fingerprintOf(publicKey) };
    } catch (error) {
      this.#world.log.log("warn", "a signer's key is left out", { path, ...reportOf(error) });
      return undefined;
    }
  }
}
