import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { createCertificates, requireConstrainedCa } from "./certificates.ts";

const world = realWorld();
const unconstrained = (error: unknown): boolean => hasCode(error, "xmpp.ca-unconstrained");
let directory: string;

function ca(...extensions: string[]): string {
  const wanted = extensions.flatMap((extension) => ["-addext", extension]);
  const key = join(directory, "other.key");
  const shape = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key];
  const args = ["req", "-x509", ...shape, "-subj", "/CN=other", ...wanted];
  return execFileSync("openssl", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

const BASIC = "basicConstraints=critical,CA:TRUE,pathlen:0";

describe("certificates", () => {
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessera-pki-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  it("are made once, with keys that only their owner can read", async () => {
    const first = await createCertificates(world, join(directory, "a"), "alpha.example");
    const again = await createCertificates(world, join(directory, "a"), "alpha.example");
    assert.deepEqual(again, first);
    for (const path of [first.keyPath, join(directory, "a/ca-key.pem")]) {
      assert.equal((await stat(path)).mode & 0o777, 0o600);
    }
    const names = execFileSync(
      "openssl",
      ["verify", "-CAfile", join(directory, "a/ca.pem"), first.certificatePath],
      { encoding: "utf8" },
    );
    assert.match(names, /OK/);
  });

  it("are not taken for another domain", async () => {
    const made = createCertificates(world, join(directory, "a"), "beta.example");
    await assert.rejects(made, unconstrained);
  });

  it("count as constrained to their own domain and to no other", async () => {
    const { ca: pem } = await createCertificates(world, join(directory, "a"), "alpha.example");
    assert.match(await requireConstrainedCa(world, pem, "alpha.example"), /^-----BEGIN/);
    for (const other of ["beta.example", "a.alpha.example", "pha.example"]) {
      await assert.rejects(requireConstrainedCa(world, pem, other), unconstrained);
    }
  });

  const domain = "alpha.example";
  const permit = `nameConstraints=critical,permitted;DNS:${domain}`;
  for (const [what, extensions] of [
    ["no constraint", [BASIC]],
    ["a constraint that may be ignored", [BASIC, `nameConstraints=permitted;DNS:${domain}`]],
    ["a second name", [BASIC, `${permit},permitted;DNS:beta.example`]],
    ["only an exclusion", [BASIC, "nameConstraints=critical,excluded;DNS:beta.example"]],
    ["a wider name", [BASIC, "nameConstraints=critical,permitted;DNS:example"]],
    ["another kind of name", [BASIC, `nameConstraints=critical,permitted;email:${domain}`]],
    ["sub-authorities", ["basicConstraints=critical,CA:TRUE", permit]],
    ["no right to sign", ["basicConstraints=critical,CA:FALSE", permit]],
  ] as const) {
    it(`do not trust a CA with ${what}`, async () => {
      await assert.rejects(requireConstrainedCa(world, ca(...extensions), domain), unconstrained);
    });
  }

  it("do not trust two certificates in one, nor nonsense", async () => {
    const good = ca(BASIC, permit);
    await requireConstrainedCa(world, good, domain);
    for (const pem of [good + ca(BASIC), "hello", "", good.slice(0, 200)]) {
      await assert.rejects(requireConstrainedCa(world, pem, domain), unconstrained);
    }
  });

  it("cannot be tricked by a name that looks like an extension", async () => {
    const args = ["-subj", `/CN=X509v3 Name Constraints: critical\\, DNS:${domain}`];
    const key = join(directory, "trick.key");
    const pem = execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, ...args, "-addext", BASIC],
      { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] },
    );
    await assert.rejects(requireConstrainedCa(world, pem, domain), unconstrained);
  });
});
