import assert from "node:assert/strict";
import { test } from "node:test";
import { array, assert as holds, constantFrom, property, string } from "fast-check";
import { hasCode, TesseraError } from "#core";
import { parseChallenge } from "./challenge.ts";
import { credentialsIn } from "./credentials.ts";
import { formatReference, isLoopback, parseReference, tagOf } from "./reference.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

test("references are read and written", () => {
  for (const text of [
    "oci://registry.example/nginx",
    "oci://registry.example:5000/cloud/program/nginx:1.22.1-9",
    `oci://[::1]:5000/a__b/c-d@${DIGEST}`,
    "oci://10.0.0.1/a.b:latest",
  ]) {
    assert.equal(formatReference(parseReference(text)), text);
  }
});

test("what is no reference is refused", () => {
  for (const text of [
    "nginx",
    "https://registry.example/nginx",
    "oci://registry.example",
    "oci:///nginx",
    "oci://user:secret@registry.example/nginx",
    "oci://registry.example/../etc",
    "oci://registry.example/Nginx",
    "oci://registry.example/a//b",
    "oci://registry.example/a:..",
    "oci://registry.example/a:b:c",
    "oci://registry.example:99999/a",
    "oci://registry.example/a@sha256:12",
    "oci://registry.example/a?b",
    `oci://registry.example/${"a".repeat(300)}`,
    `oci://${"a".repeat(2000)}/a`,
  ]) {
    assert.throws(
      () => parseReference(text),
      (error: unknown) => hasCode(error, "registry.reference-invalid"),
      text,
    );
  }
});

test("whatever is given, it is a reference that is written again as it was, or refused", () => {
  const part = constantFrom("oci://", "a", "B", ".", "-", "_", "/", ":", "@", "5000", DIGEST);
  holds(
    property(array(part, { maxLength: 12 }), (parts) => {
      const text = parts.join("");
      try {
        const again = formatReference(parseReference(text));
        assert.equal(again.toLowerCase(), text.toLowerCase());
      } catch (error) {
        assert.ok(error instanceof TesseraError, String(error));
      }
    }),
  );
});

test("every version has a tag", () => {
  assert.equal(tagOf("1:2.3~rc1+b1"), "1-2.3-rc1-b1");
  assert.equal(tagOf("..."), "latest");
  holds(
    property(string(), (version) => {
      assert.match(tagOf(version), /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/);
    }),
  );
});

test("this host is told from others", () => {
  for (const host of ["localhost:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:80"]) {
    assert.ok(isLoopback(host), host);
  }
  for (const host of ["localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]"]) {
    assert.ok(!isLoopback(host), host);
  }
});

test("challenges", () => {
  assert.deepEqual(parseChallenge('Basic realm="x"'), { scheme: "basic" });
  assert.deepEqual(
    parseChallenge('Bearer realm="https://a/t",service="s\\"q",scope="repository:x:pull,push"'),
    { scheme: "bearer", realm: "https://a/t", service: 's"q', scope: "repository:x:pull,push" },
  );
  assert.deepEqual(parseChallenge('Basic realm="x", Bearer realm=https://a/t'), {
    scheme: "bearer",
    realm: "https://a/t",
  });
  for (const none of ["", "Digest x", "Bearer", "Bearer service=x", "x".repeat(10_000)]) {
    assert.equal(parseChallenge(none), undefined);
  }
  holds(property(string(), (text) => void parseChallenge(text)));
});

const auth = (text: string) => ({ auth: Buffer.from(text).toString("base64") });

test("credentials are those of the longest prefix, and errors never quote the file", () => {
  const file = JSON.stringify({
    auths: {
      "https://registry.example/v1/": auth("a:1:2"),
      "registry.example/team": auth("b:3"),
      "other:5000": { username: "c", password: "4" },
      "empty.example": {},
    },
  });
  const at = (host: string, name = "x") => credentialsIn(file, { host, name });
  assert.deepEqual(at("registry.example"), { username: "a", password: "1:2" });
  assert.deepEqual(at("registry.example", "team/x"), { username: "b", password: "3" });
  assert.deepEqual(at("other:5000"), { username: "c", password: "4" });
  assert.equal(at("empty.example"), undefined);
  assert.equal(at("nowhere"), undefined);
  const broken = ["secret", '{"auths":3}', '{"auths":{"h":{"auth":"c2VjcmV0"}}}'];
  for (const content of broken) {
    assert.throws(
      () => credentialsIn(content, { host: "h", name: "x" }),
      (error: unknown) =>
        hasCode(error, "registry.auth-file-invalid") && !error.message.includes("secret"),
    );
  }
});
