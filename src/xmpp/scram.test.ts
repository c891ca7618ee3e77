import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hasCode } from "#core";
import { Scram } from "./scram.ts";

/** The exchange of RFC 7677, section 3. */
const NONCE = "rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST =
  "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const forged = (error: unknown): boolean => hasCode(error, "xmpp.login-forged");

describe("SCRAM-SHA-256", () => {
  it("reproduces the exchange of RFC 7677", async () => {
    const scram = new Scram("user", "pencil", NONCE);
    assert.equal(scram.first, `n,,n=user,r=${NONCE}`);
    const final = await scram.final(SERVER_FIRST);
    assert.equal(
      final.message,
      "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
        "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    final.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert.throws(() => final.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), forged);
    assert.throws(() => final.verify(""), forged);
    assert.throws(() => final.verify("e=other-error"), forged);
  });

  for (const [what, message] of [
    ["a nonce that is not ours", SERVER_FIRST.replace("rOpr", "xOpr")],
    ["our nonce and nothing more", `r=${NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096`],
    ["too few iterations", SERVER_FIRST.replace("i=4096", "i=1")],
    ["iterations that would take hours", SERVER_FIRST.replace("i=4096", "i=99999999")],
    ["no iterations", SERVER_FIRST.replace(",i=4096", "")],
    ["a tiny salt", SERVER_FIRST.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "AA==")],
    ["an unknown extension", `m=x,${SERVER_FIRST}`],
    ["nothing", ""],
  ] as const) {
    it(`refuses a server that sends ${what}`, async () => {
      await assert.rejects(new Scram("user", "pencil", NONCE).final(message), forged);
    });
  }

  it("escapes names and refuses passwords that would need preparation", () => {
    assert.equal(new Scram("a=b,c", "x", "n").first, "n,,n=a=3Db=2Cc,r=n");
    assert.throws(
      () => new Scram("a", "\u00fcber", "n"),
      (error) => hasCode(error, "xmpp.password-invalid"),
    );
  });
});
