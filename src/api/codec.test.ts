import assert from "node:assert/strict";
import { test } from "node:test";
import { TesseraError } from "#core";
import * as fc from "fast-check";
import {
  decodeErrorAnswer,
  decodeInput,
  decodeResult,
  decodeStreamLine,
  encodeProgress,
  encodeRequest,
  encodeResult,
  findRoute,
  type RequestText,
} from "./codec.ts";
import { OPERATION_NAMES, operationOf, type Input } from "./operations.ts";

function received({ method, target, body }: RequestText): { name: string; input: unknown } {
  const route = findRoute(method, target);
  return { name: route.name, input: decodeInput(route, body ?? "") };
}

function code(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof TesseraError) return error.code;
    throw error;
  }
  return "no error";
}

/** Any text that is valid Unicode, and the ones that paths and queries trip over. */
const names = fc.oneof(
  fc.string({ minLength: 1, maxLength: 60, unit: "grapheme" }).filter((text) => text.length <= 200),
  fc.constantFrom(".", "..", "a/b", "os/debian-12@12.8", "a?b=c&d", "%2F", "a b+c", "#", "true"),
);

test("a request reads as it was written, whatever the names", () => {
  fc.assert(
    fc.property(names, fc.nat(), fc.option(names, { nil: undefined }), (name, offset, to) => {
      const asked = { machine: name, offset };
      assert.deepEqual(received(encodeRequest("machine.console", asked)), {
        name: "machine.console",
        input: asked,
      });
      const plan: Input<"plan.make"> = { machine: name, ...(to === undefined ? {} : { to }) };
      assert.deepEqual(received(encodeRequest("plan.make", plan)).input, plan);
      const removal = { component: name };
      assert.deepEqual(received(encodeRequest("component.remove", removal)).input, removal);
    }),
  );
});

test("every operation has a route of its own", () => {
  for (const name of OPERATION_NAMES) {
    const { method, path } = operationOf(name);
    assert.equal(findRoute(method, path.replaceAll(/\{\w+\}/g, "x")).name, name);
  }
});

test("unknown paths, wrong methods and doubled members are refused", () => {
  assert.equal(
    code(() => findRoute("GET", "/v1/nothing")),
    "api.path-unknown",
  );
  assert.equal(
    code(() => findRoute("GET", "/v1/machines/a/b/c")),
    "api.path-unknown",
  );
  assert.equal(
    code(() => findRoute("GET", "/v1/machines/%ff")),
    "api.path-unknown",
  );
  assert.equal(
    code(() => findRoute("GET", "")),
    "api.path-unknown",
  );
  assert.equal(
    code(() => findRoute("PUT", "/v1/machines")),
    "api.method-wrong",
  );
  const target = "/v1/machines/a/console?offset=1&offset=2";
  assert.equal(
    code(() => findRoute("GET", target)),
    "api.query-invalid",
  );
});

test("input is decoded, then validated, and the fault names the member", () => {
  const create = findRoute("POST", "/v1/machines");
  for (const body of ["{", "[]", "null", "7", '"x"']) {
    assert.equal(
      code(() => decodeInput(create, body)),
      "api.body-invalid",
      body,
    );
  }
  const faults: [string, string | undefined][] = [
    ["{}", "name"],
    ['{"name":"a","appliance":7}', "appliance"],
    ['{"name":"a","appliance":"b","colour":1}', undefined],
    ['{"name":"","appliance":"b"}', "name"],
    [`{"name":"${"a".repeat(300)}","appliance":"b"}`, "name"],
    ['{"name":"a","appliance":"b","files":[{"path":"x","contentBase64":""}]}', "files.0.path"],
    [
      '{"name":"a","appliance":"b","files":[{"path":"/x","contentBase64":"*"}]}',
      "files.0.contentBase64",
    ],
  ];
  for (const [body, subject] of faults) {
    assert.throws(
      () => decodeInput(create, body),
      (error) => {
        assert.ok(error instanceof TesseraError);
        assert.equal(error.code, "api.input-invalid", body);
        assert.equal(error.fault, "misuse");
        assert.equal(error.subject, subject, body);
        return true;
      },
    );
  }
});

test("a path's member cannot be overridden by the body", () => {
  const route = findRoute("POST", "/v1/machines/a/start");
  assert.deepEqual(decodeInput(route, '{"machine":"b"}'), { machine: "a" });
});

test("a body with __proto__ is refused and changes no prototype", () => {
  const route = findRoute("POST", "/v1/plans");
  const body = '{"machine":"a","__proto__":{"polluted":true}}';
  assert.equal(
    code(() => decodeInput(route, body)),
    "api.input-invalid",
  );
  assert.equal(Object.hasOwn(Object.prototype, "polluted"), false);
});

test("resolving needs the operator's word that the other side is fenced", () => {
  const route = findRoute("POST", "/v1/migrations/m/resolve");
  assert.equal(
    code(() => decodeInput(route, '{"outcome":"keep-here"}')),
    "api.input-invalid",
  );
  const body = '{"outcome":"keep-here","fenced":false}';
  assert.equal(
    code(() => decodeInput(route, body)),
    "api.input-invalid",
  );
});

test("an answer is checked on its way out and on its way in", () => {
  const text = encodeResult("component.remove", { removed: `sha256:${"0".repeat(64)}`, more: 1 });
  assert.equal(text, `{"removed":"sha256:${"0".repeat(64)}"}`);
  assert.equal(
    code(() => encodeResult("component.remove", { removed: 7 })),
    "api.output-invalid",
  );
  assert.equal(
    code(() => encodeProgress("machine.list", {})),
    "api.output-invalid",
  );
  assert.equal(
    code(() => decodeResult("component.remove", "{}")),
    "api.answer-invalid",
  );
  assert.equal(
    code(() => decodeResult("component.remove", "<html>")),
    "api.answer-invalid",
  );
});

test("a stream's lines are progress, result or error", () => {
  const progress = { step: "download", detail: "nginx" };
  const line = encodeProgress("component.build", progress);
  assert.deepEqual(decodeStreamLine("component.build", line), { progress });
  const report = { code: "build.failed", fault: "environment", message: "no" };
  const error = JSON.stringify({ error: report });
  assert.equal(
    code(() => decodeStreamLine("component.build", error)),
    "build.failed",
  );
  for (const bad of ["", "{}", "7", '{"progress":{"step":"x"}}', '{"error":{"code":"X"}}']) {
    assert.equal(
      code(() => decodeStreamLine("component.build", bad)),
      "api.answer-invalid",
      bad,
    );
  }
});

test("an error's answer that cannot be read is itself an error with a code", () => {
  assert.equal(decodeErrorAnswer("machine.list", "Bad Gateway").code, "api.answer-invalid");
  assert.equal(decodeErrorAnswer("machine.list", "null").code, "api.answer-invalid");
  const report = { code: "a.b-unknown", fault: "misuse", message: "m", subject: "s", remedy: "r" };
  const error = decodeErrorAnswer("machine.list", JSON.stringify({ error: report }));
  assert.deepEqual([error.code, error.subject, error.remedy], ["a.b-unknown", "s", "r"]);
});
