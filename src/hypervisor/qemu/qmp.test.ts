import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "#core";
import { realWorld } from "#system";
import { agree, GREETING, monitor } from "./monitor.suite.ts";
import { Qmp } from "./qmp.ts";

const { clock } = realWorld();

function fails(code: string): (error: unknown) => boolean {
  return (error) => hasCode(error, code);
}

test("capabilities are negotiated before the first command", async (t) => {
  const seen: unknown[] = [];
  const path = await monitor(t, GREETING, (command, socket) => {
    seen.push(command);
    return agree(command, socket);
  });
  const qmp = await Qmp.open(path, clock);
  assert.deepEqual(await qmp.execute("query-status"), {});
  assert.deepEqual(seen, [
    { execute: "qmp_capabilities", arguments: { enable: ["oob"] }, id: 0 },
    { execute: "query-status", arguments: {}, id: 1 },
  ]);
  await qmp.close();
});

test("answers find their commands in any order, events their listeners", async (t) => {
  const held: unknown[] = [];
  const path = await monitor(t, GREETING, (command, socket) => {
    if (command["execute"] === "qmp_capabilities") return agree(command, socket);
    held.push(command["id"]);
    if (held.length < 2) return undefined;
    const lines = held
      .toReversed()
      .map((id) => `{"return": "for ${String(id)}", "id": ${String(id)}}\n`);
    return `{"event": "STOP"}\n${lines.join("")}`;
  });
  const qmp = await Qmp.open(path, clock);
  const events: string[] = [];
  const leave = qmp.onEvent(({ event }) => events.push(event));
  assert.deepEqual(await Promise.all([qmp.execute("a"), qmp.execute("b")]), ["for 1", "for 2"]);
  assert.deepEqual(events, ["STOP"]);
  leave();
  await qmp.close();
});

test("a refusal carries QEMU's words", async (t) => {
  const path = await monitor(t, GREETING, (command, socket) =>
    command["execute"] === "qmp_capabilities"
      ? agree(command, socket)
      : `{"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": ${String(command["id"])}}\n`,
  );
  const qmp = await Qmp.open(path, clock);
  await assert.rejects(qmp.execute("dance"), /no such command/);
  await qmp.close();
});

test("a monitor that is silent, wrong or gone ends the wait", async (t) => {
  const silent = await monitor(t, "", () => undefined);
  await assert.rejects(Qmp.open(silent, clock, 30), fails("hypervisor.qmp-timeout"));
  const wrong = await monitor(t, "220 smtp\n", () => undefined);
  await assert.rejects(Qmp.open(wrong, clock), fails("hypervisor.qmp-broken"));
  await assert.rejects(Qmp.open("/nowhere/s", clock), fails("hypervisor.qmp-closed"));
  const leaving = await monitor(t, GREETING, (command, socket) => {
    if (command["id"] === 0) return agree(command, socket);
    socket.destroy();
    return undefined;
  });
  const qmp = await Qmp.open(leaving, clock);
  await assert.rejects(qmp.execute("query-status"), fails("hypervisor.qmp-closed"));
  await assert.rejects(qmp.execute("query-status"), fails("hypervisor.qmp-closed"));
  await qmp.closed;
});

test("a late answer is dropped and the next command is served", async (t) => {
  const path = await monitor(t, GREETING, (command, socket) =>
    command["execute"] === "slow" ? undefined : agree(command, socket),
  );
  const qmp = await Qmp.open(path, clock);
  const slow = qmp.execute("slow", {}, { timeout_ms: 20 });
  await assert.rejects(slow, fails("hypervisor.qmp-timeout"));
  assert.deepEqual(await qmp.execute("query-status"), {});
  await qmp.close();
});
