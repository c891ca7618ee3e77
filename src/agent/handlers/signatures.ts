import { createPrivateKey, createPublicKey, sign } from "node:crypto";
import type { Handlers, Input, Output } from "#api";
import { TesseraError, type Component } from "#core";
import { fingerprintOf, loadOrCreateAgentKey, type AgentKey } from "#federation";
import { signedBytes } from "#repository";
import { idOf } from "./components.ts";
import { pushMade } from "../upstream/push.ts";
import type { Parts } from "./parts.ts";

type SignatureOperations = Pick<Handlers, "component.verify" | "component.sign">;

export function signatureHandlers(parts: Parts): SignatureOperations {
  const { store } = parts;
  return {
    "component.verify": (input) => verify(parts, input),
    "component.sign": async ({ component: text, key: pem }, { signal }) => {
      const component = await store.resolve(text);
      const signer = pem === undefined ? await ownKey(parts) : keyOf(pem, "the key that was given");
      const { publicKey } = signer;
      const key = fingerprintOf(publicKey);
      const signature = signer.sign(signedBytes(component));
      await store.addSignatures(component.id, { signatures: [{ key, signature }], own: true });
      // It was sent before it was signed, if at all: only the signatures travel now.
      const pushed = await pushMade(parts, [component], signal);
      return { component: component.id, key, publicKey: pemOf(publicKey), ...pushed };
    },
  };
}

/** The cloud's signing key, made when there is none; its public part lies beside it. */
async function ownKey({ world, layout }: Parts): Promise<AgentKey> {
  const key = await loadOrCreateAgentKey(world, layout.signingKey);
  await world.files.writeFileAtomic(layout.signingPublicKey, pemOf(key.publicKey), 0o644);
  return key;
}

function keyOf(pem: string, what: string): AgentKey {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== "ed25519") throw new TypeError("it is of another type");
    const der = createPublicKey(key).export({ type: "spki", format: "der" });
    return {
      publicKey: der.toString("base64"),
      sign: (bytes) => sign(null, bytes, key).toString("base64"),
    };
  } catch (cause) {
    throw new TesseraError("misuse", "agent.key-invalid", `${what} is no Ed25519 key`, {
      remedy: "make one with: openssl genpkey -algorithm ed25519 -out key.pem",
      cause,
    });
  }
}

function pemOf(publicKey: string): string {
  const key = Buffer.from(publicKey, "base64");
  return createPublicKey({ key, format: "der", type: "spki" })
    .export({ type: "spki", format: "pem" })
    .toString();
}

async function verify(
  parts: Parts,
  { component: text, signedBy }: Input<"component.verify">,
): Promise<Output<"component.verify">> {
  const { store } = parts;
  const id = text === undefined ? undefined : await idOf(store, text);
  const report = await store.verify(id);
  const all = await store.list();
  const wanted = id === undefined ? all : all.filter((component) => component.id === id);
  const checked = await Promise.all(wanted.map((component) => check(parts, component)));
  for (const [index, component] of wanted.entries()) {
    if (signedBy !== undefined) requireSigner(component, signedBy, checked[index] ?? []);
  }
  return { ...report, signatures: checked.flat() };
}

type Checked = NonNullable<Output<"component.verify">["signatures"]>;

async function check({ store, signers }: Parts, component: Component): Promise<Checked> {
  const { name, version } = component.description;
  const signatures = await signers.check(component, await store.signatures(component.id));
  const componentName = `${name} ${version}`;
  return signatures.map((one) => ({ component: component.id, componentName, ...one }));
}

function requireSigner(component: Component, signer: string, checked: Checked): void {
  if (checked.some((one) => one.signer === signer && one.valid === true)) return;
  const { name, version } = component.description;
  const message = `${name} ${version} has no valid signature of ${signer}`;
  throw new TesseraError("misuse", "agent.signature-refused", message, {
    subject: component.id,
    remedy: "have it signed, or put the signer's public key into keys/signers of this cloud",
  });
}
