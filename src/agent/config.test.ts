import assert from "node:assert/strict";
import { test } from "node:test";
import { stringify } from "yaml";
import { hasCode } from "#core";
import { hostResources, parseConfig, renderConfig } from "./config.ts";

const LEAST = {
  cloud: "messina",
  domain: "messina.example",
  room: "federation@rooms.messina.example",
  xmpp: { server: "embedded", clientPort: 5223, serverPort: 5270 },
  data: { port: 5280 },
};

test("the least configuration has the documented defaults", () => {
  const config = parseConfig(stringify(LEAST), "cloud.yaml");
  assert.deepEqual(config, {
    ...LEAST,
    region: "default",
    xmpp: { ...LEAST.xmpp, host: "127.0.0.1" },
    data: { host: "127.0.0.1", port: 5280 },
    resources: {},
    egressPricePerGB: 0,
    receives: true,
    help: { enabled: true, sessions: 4, time: 3_600_000 },
    signatures: { required: {} },
    lineage: { keep: true, bytesMax: 32 * 2 ** 30 },
    storage: { format: "raw" },
    times: { peerTimeout: 120_000, stopTimeout: 90_000, bootTimeout: 300_000, retry: 1000 },
  });
  const { cpus, memoryBytes } = hostResources(config);
  assert.ok(cpus >= 1 && memoryBytes > 0);
});

test("sizes, rates and times are read, and what is rendered is read again", () => {
  const given = {
    ...LEAST,
    region: "eu",
    resources: { cpus: 2, memory: "3G" },
    link: "50Mbit/s",
    times: { peerTimeout: "2min", retry: "500ms", stopTimeout: "1.5s", bootTimeout: "1h" },
  };
  const config = parseConfig(stringify(given), "cloud.yaml");
  assert.equal(config.link, 50e6);
  assert.deepEqual(hostResources(config), { cpus: 2, memoryBytes: 3 * 2 ** 30 });
  assert.deepEqual(config.times, {
    peerTimeout: 120_000,
    retry: 500,
    stopTimeout: 1500,
    bootTimeout: 3_600_000,
  });
  const external = { server: "external", host: "x", port: 5223, passwordFile: "p" } as const;
  const text = renderConfig({ ...LEAST, xmpp: external });
  assert.deepEqual(parseConfig(text, "cloud.yaml").xmpp, external);
});

/** A line of the text below, what to put there, and the member that the error names. */
const TEXT = `cloud: messina
domain: messina.example
region: eu
room: federation@rooms.messina.example
xmpp:
  server: embedded
  host: 127.0.0.1
  clientPort: 5223
  serverPort: 5270
  advertise: { host: a, port: 1 }
data:
  host: 127.0.0.1
  port: 5280
  advertise:
    - { host: a, port: 1 }
resources:
  cpus: 2
  memory: 2G
link: 50Mbit/s
egressPricePerGB: 0.1
receives: true
times:
  peerTimeout: 10s
  stopTimeout: 10s
  bootTimeout: 10s
  retry: 1s
`;

const WRONG: readonly (readonly [line: number, text: string, member: string])[] = [
  [1, "cloud: Messina", "cloud"],
  [2, "domain: 'a b'", "domain"],
  [3, "region: ''", "region"],
  [4, "room: 7", "room"],
  [6, "  server: other", "xmpp.server"],
  [7, "  host: ''", "xmpp.host"],
  [8, "  clientPort: 0", "xmpp.clientPort"],
  [9, "  serverPort: 65536", "xmpp.serverPort"],
  [10, "  advertise: { host: a, port: x }", "xmpp.advertise.port"],
  [12, "  host: []", "data.host"],
  [13, "  port: 1.5", "data.port"],
  [15, "    - { host: a, port: 0 }", "data.advertise.0.port"],
  [17, "  cpus: 0", "resources.cpus"],
  [18, "  memory: lots", "resources.memory"],
  [19, "link: 50", "link"],
  [20, "egressPricePerGB: -1", "egressPricePerGB"],
  [21, "receives: perhaps", "receives"],
  [23, "  peerTimeout: 10", "times.peerTimeout"],
  [24, "  stopTimeout: soon", "times.stopTimeout"],
  [25, "  bootTimeout: -1s", "times.bootTimeout"],
  [26, "  retry: 1 day", "times.retry"],
];

test("every member that is wrong is named with its line", () => {
  parseConfig(TEXT, "cloud.yaml");
  for (const [line, wrong, member] of WRONG) {
    const lines = TEXT.split("\n");
    lines[line - 1] = wrong;
    assert.throws(
      () => parseConfig(lines.join("\n"), "cloud.yaml"),
      (error) =>
        hasCode(error, "agent.config-invalid") &&
        error.message.startsWith(`cloud.yaml:${line}: ${member}: `),
      wrong,
    );
  }
});

/** What a text is refused with. */
function message(text: string): string {
  try {
    parseConfig(text, "cloud.yaml");
  } catch (error) {
    if (hasCode(error, "agent.config-invalid")) return error.message;
    throw error;
  }
  throw new Error("it was taken");
}

test("unknown and missing members, aliases and broken YAML are refused with a place", () => {
  assert.match(message(`${TEXT}colour: red\n`), /^cloud\.yaml:27: .*colour/);
  assert.match(message(TEXT.replace("  cpus: 2", "  cpu: 2")), /^cloud\.yaml:17: .*cpu/);
  assert.match(message(TEXT.replace("domain: messina.example\n", "")), /^cloud\.yaml:1: domain: /);
  assert.match(message(TEXT.replace("  port: 5280\n", "")), /^cloud\.yaml:12: data\.port: /);
  assert.match(message("cloud: [\n"), /^cloud\.yaml:\d+: /);
  assert.match(message("a: &x [1]\nb: *x\n"), /^cloud\.yaml/);
  assert.match(message(""), /^cloud\.yaml/);
  assert.match(message("- 1\n"), /^cloud\.yaml/);
});

const upstream = (text: string): string => `${TEXT}upstream: ${text}\n`;

test("an upstream registry is named without tag, its user with a password", () => {
  const given = upstream(
    "{registry: 'oci://Registry.example:5000/cloud', push: true, link: 1Gbit/s}",
  );
  assert.deepEqual(parseConfig(given, "cloud.yaml").upstream, {
    registry: { host: "registry.example:5000", name: "cloud" },
    plainHttp: false,
    push: true,
    link: 1e9,
    pricePerGB: 0,
  });
  const wrong = [
    ["{registry: registry.example/cloud}", "registry"],
    ["{registry: 'oci://registry.example/cloud:1'}", "registry"],
    ["{registry: 'oci://registry.example/cloud', username: ci}", "username"],
  ] as const;
  for (const [text, member] of wrong) {
    assert.match(message(upstream(text)), new RegExp(`^cloud\\.yaml:27: upstream\\.${member}: `));
  }
});
