/** Each command against a real API server with handlers in memory. */
import assert from "node:assert/strict";
import { chmod, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Handlers } from "#api";
import { TesseraError } from "#core";
import { encodeCard } from "#federation";
import { refusal, run, runWith, withAgent, type RunOptions } from "./fixture.suite.ts";
import * as sample from "./samples.suite.ts";

const HANDLERS: Partial<Handlers> = {
  "agent.info": () => Promise.resolve(sample.INFO),
  "agent.shutdown": () => Promise.resolve({}),
  "peer.add": ({ card }) => Promise.resolve({ card, fingerprint: "fp", present: false }),
  "peer.list": () =>
    Promise.resolve({ peers: [{ card: sample.CARD, fingerprint: "fp", present: true }] }),
  "peer.remove": ({ cloud }) => Promise.resolve({ removed: cloud }),
  "cloud.list": () => Promise.resolve({ clouds: [sample.CLOUD] }),
  "cloud.show": () => Promise.resolve({ cloud: sample.CLOUD, offer: sample.OFFER }),
  "component.list": () => Promise.resolve({ components: [sample.KERNEL, sample.OS, sample.NGINX] }),
  "component.show": () => Promise.resolve({ component: sample.NGINX, pinnedBy: [] }),
  "component.add": () => Promise.resolve({ components: [sample.NGINX] }),
  "component.verify": () => Promise.resolve({ components: 3, blobs: 9, bytes: 3e8, findings: [] }),
  "component.remove": () => Promise.resolve({ removed: sample.NGINX.id }),
  "component.collect": ({ dryRun = false }) => Promise.resolve({ removed: [], bytes: 0, dryRun }),
  "appliance.check": () => Promise.resolve({ appliance: sample.APPLIANCE, fits: true, unmet: [] }),
  "appliance.add": () => Promise.resolve(sample.APPLIANCE),
  "appliance.list": () => Promise.resolve({ appliances: [sample.APPLIANCE] }),
  "appliance.show": () => Promise.resolve(sample.APPLIANCE),
  "appliance.remove": ({ appliance }) => Promise.resolve({ removed: appliance }),
  "machine.create": () => Promise.resolve({ ...sample.MACHINE, state: "stopped" as const }),
  "machine.import": ({ dryRun = false }) =>
    Promise.resolve(dryRun ? sample.IMPORT : { ...sample.IMPORT, ...sample.IMPORTED }),
  "machine.export": ({ dryRun = false }) =>
    Promise.resolve(dryRun ? sample.EXPORT : { ...sample.EXPORT, ...sample.EXPORTED }),
  "machine.list": () => Promise.resolve({ machines: [sample.MACHINE] }),
  "machine.show": () => Promise.resolve(sample.MACHINE),
  "machine.start": () => Promise.resolve(sample.MACHINE),
  "machine.stop": () => Promise.resolve({ machine: sample.MACHINE, stop: "graceful" as const }),
  "machine.remove": ({ machine }) => Promise.resolve({ removed: machine }),
  "plan.make": () => Promise.resolve({ plan: sample.PLAN }),
  "advice.make": () => Promise.resolve(sample.ADVICE),
  "migration.list": () => Promise.resolve({ migrations: [sample.STATUS] }),
  "migration.show": () => Promise.resolve(sample.STATUS),
  "migration.cancel": () => Promise.resolve({ ...sample.STATUS, outcome: "aborted" as const }),
  "migration.resolve": () => Promise.resolve(sample.STATUS),
};

interface Case {
  readonly argv: readonly string[];
  readonly asks: readonly [string, unknown];
  readonly says: string | RegExp;
  /** Written before, by name. */
  readonly files?: Readonly<Record<string, string>>;
}

const id = sample.MIGRATION;
const description = JSON.stringify(sample.NGINX.description);

const CASES: readonly Case[] = [
  { argv: ["agent", "info"], asks: ["agent.info", {}], says: /^cloud +messina\n/ },
  { argv: ["agent", "stop"], asks: ["agent.shutdown", {}], says: /machines run on/ },
  { argv: ["agent", "card"], asks: ["agent.info", {}], says: encodeCard(sample.INFO.card) },
  {
    argv: ["agent", "trust", "card.json"],
    files: { "card.json": encodeCard(sample.CARD) },
    asks: ["peer.add", { card: sample.CARD }],
    says: "trusting inquadro (fp)\n",
  },
  {
    argv: ["agent", "peers"],
    asks: ["peer.list", {}],
    says: /^CLOUD.*\ninquadro .* present {2}fp\n$/,
  },
  {
    argv: ["agent", "distrust", "roma"],
    asks: ["peer.remove", { cloud: "roma" }],
    says: "roma is trusted no longer\n",
  },
  {
    argv: ["cloud", "ls"],
    asks: ["cloud.list", {}],
    says: `\
CLOUD     REGION  RECEIVES  CPUS  MEMORY  STORAGE  COMPONENTS
inquadro  eu      yes       6     8.0 GB  120 GB   2
`,
  },
  {
    argv: ["cloud", "show", "inquadro"],
    asks: ["cloud.show", { cloud: "inquadro" }],
    says: /number 7, confirmed/,
  },
  {
    argv: ["component", "ls"],
    asks: ["component.list", {}],
    says: `\
KIND     NAME          VERSION    ARCH      SIZE  ID
kernel   debian-cloud  6.1.129-1  amd64  62.1 MB  111111111111
os       debian-12     12.8       amd64   240 MB  222222222222
program  nginx         1.22.1-9   amd64   4.5 MB  333333333333
`,
  },
  {
    argv: ["component", "ls", "--kind", "os"],
    asks: ["component.list", { kind: "os" }],
    says: /debian-12/,
  },
  {
    argv: ["component", "show", "program/nginx@1.22.1-9"],
    asks: ["component.show", { component: "program/nginx@1.22.1-9" }],
    says: /^name +nginx$/m,
  },
  {
    argv: ["component", "add", "--image", "n.erofs", "--description", "n.json"],
    files: { "n.json": description },
    asks: [
      "component.add",
      {
        source: { from: "image", path: "DIRECTORY/n.erofs", description: sample.NGINX.description },
      },
    ],
    says: /^program {2}nginx/m,
  },
  {
    argv: ["component", "add", "--oci", "layout"],
    asks: ["component.add", { source: { from: "oci-layout", path: "DIRECTORY/layout" } }],
    says: /^program {2}nginx/m,
  },
  {
    argv: ["component", "ls", "--upstream"],
    asks: ["component.list", { upstream: true }],
    says: /debian-12/,
  },
  {
    argv: ["component", "add", "--from-oci", "saved.tar", "--layers", "--component-version", "2"],
    asks: [
      "component.add",
      { source: { from: "container", path: "DIRECTORY/saved.tar", version: "2", layers: true } },
    ],
    says: /^program {2}nginx/m,
  },
  {
    argv: ["component", "verify"],
    asks: ["component.verify", {}],
    says: "read 3 components and 9 blobs, 300 MB: all is well\n",
  },
  {
    argv: ["component", "verify", "nginx"],
    asks: ["component.verify", { component: "nginx" }],
    says: /all is well/,
  },
  {
    argv: ["component", "rm", "nginx"],
    asks: ["component.remove", { component: "nginx" }],
    says: `removed ${sample.NGINX.id}\n`,
  },
  {
    argv: ["component", "gc", "--dry-run"],
    asks: ["component.collect", { dryRun: true }],
    says: "would remove 0 blobs, 0 B\n",
  },
  { argv: ["component", "gc"], asks: ["component.collect", {}], says: "removed 0 blobs, 0 B\n" },
  {
    argv: ["appliance", "check", "web.yaml"],
    files: { "web.yaml": "name: web\n" },
    asks: ["appliance.check", { fileName: "web.yaml", text: "name: web\n" }],
    says: /^web: fits\n/,
  },
  {
    argv: ["appliance", "add", "web.yaml"],
    files: { "web.yaml": "name: web\n" },
    asks: ["appliance.add", { fileName: "web.yaml", text: "name: web\n" }],
    says: /^name +web\n/,
  },
  { argv: ["appliance", "ls"], asks: ["appliance.list", {}], says: /^web .* nginx .* 512 MiB/m },
  {
    argv: ["appliance", "show", "web"],
    asks: ["appliance.show", { appliance: "web" }],
    says: /^name +web\n/,
  },
  {
    argv: ["appliance", "rm", "web"],
    asks: ["appliance.remove", { appliance: "web" }],
    says: "removed web\n",
  },
  {
    argv: ["machine", "ls"],
    asks: ["machine.list", {}],
    says: `\
NAME   STATE    APPLIANCE  PORTS                 UUID
web-1  running  web        http=127.0.0.1:40080  6fa459ea-ee8a-4ca4-894e-db77e160355e
`,
  },
  {
    argv: ["machine", "show", "web-1"],
    asks: ["machine.show", { machine: "web-1" }],
    says: /^state +running$/m,
  },
  {
    argv: [
      "machine",
      "create",
      "web-1",
      "--appliance",
      "web",
      "--user-data",
      "u",
      "--meta-data",
      "m",
    ],
    files: { u: "#!/bin/sh\n", m: "{}" },
    asks: [
      "machine.create",
      {
        name: "web-1",
        appliance: "web",
        files: [],
        cloudInit: { userData: "#!/bin/sh\n", metaData: "{}" },
      },
    ],
    says: /^state +stopped$/m,
  },
  {
    argv: ["machine", "create", "web-1", "--appliance", "web"],
    asks: ["machine.create", { name: "web-1", appliance: "web", files: [] }],
    says: /^state +stopped$/m,
  },
  {
    argv: ["export", "web-1", "--format", "ova", "--dry-run"],
    asks: ["machine.export", { machine: "web-1", format: "ova", dryRun: true }],
    says: /^kernel +6.1.0-1-amd64, made of the component's$[^]*^changed +\/etc\/fstab$[^]*dry run/m,
  },
  {
    argv: ["export", "web-1", "--format", "qcow2", "--output", "/srv/a", "--size", "4G"],
    asks: [
      "machine.export",
      { machine: "web-1", format: "qcow2", path: "/srv/a", sizeBytes: 2 ** 32 },
    ],
    says: /^manifest exported +sha256:[^]*^differences +none$[^]*^written: \/srv\/web-1.qcow2/m,
  },
  {
    argv: ["import", "/images/old.qcow2", "--dry-run"],
    asks: ["machine.import", { path: "/images/old.qcow2", dryRun: true, backing: [], ports: [] }],
    says: /^packages +133 packages, 315 MB, 95.0% of it in components$[^]*^to roma +2 +30.6 MB$[^]*dry run/m,
  },
  {
    argv: ["import", "/images/old.ova", "--dry-run", "--disk", "a.vmdk"],
    asks: [
      "machine.import",
      { path: "/images/old.ova", dryRun: true, disk: "a.vmdk", backing: [], ports: [] },
    ],
    says: /^machine +"old-1" as its OVF says, 2 processors, 1.1 GB of memory$[^]*^note: not carried over: network card E1000$/m,
  },
  {
    argv: ["import", "/images/old.img", "--dry-run", "--domain", "old.xml"],
    files: { "old.xml": "<domain/>" },
    asks: [
      "machine.import",
      {
        path: "/images/old.img",
        dryRun: true,
        backing: [],
        ports: [],
        domain: { fileName: "old.xml", text: "<domain/>" },
      },
    ],
    says: /dry run/,
  },
  {
    argv: ["import", "/i.vmdk", "--name", "web-1", "--format", "vmdk", "--memory", "1G"].concat(
      ["--cpus", "2", "--data", "4G", "--kernel", "k", "--partition", "2", "--backing", "/b"],
      ["--port", "http=80", "--port", "ssh=22:2222"],
    ),
    asks: [
      "machine.import",
      {
        path: "/i.vmdk",
        name: "web-1",
        format: "vmdk",
        memoryBytes: 2 ** 30,
        cpus: 2,
        dataBytes: 2 ** 32,
        kernel: "k",
        partition: 2,
        backing: ["/b"],
        ports: [
          { name: "http", guest: 80 },
          { name: "ssh", guest: 22, host: 2222 },
        ],
      },
    ],
    says: /^manifest composed +sha256:[^]*^differences +none$[^]*^machine web-1 /m,
  },
  {
    argv: ["machine", "start", "web-1", "--timeout", "2min"],
    asks: ["machine.start", { machine: "web-1", timeout_ms: 120_000 }],
    says: /^state +running$/m,
  },
  {
    argv: ["machine", "stop", "web-1", "--timeout", "30"],
    asks: ["machine.stop", { machine: "web-1", timeout_ms: 30_000 }],
    says: "web-1 stopped\n",
  },
  {
    argv: ["machine", "stop", "web-1", "--force"],
    asks: ["machine.stop", { machine: "web-1", force: true }],
    says: "web-1 stopped\n",
  },
  {
    argv: ["machine", "rm", "web-1"],
    asks: ["machine.remove", { machine: "web-1" }],
    says: "removed web-1\n",
  },
  {
    argv: ["plan", "web-1", "--to", "inquadro", "--bwlimit", "50Mbit/s"],
    asks: ["plan.make", { machine: "web-1", to: "inquadro", bwlimit: 50_000_000 }],
    says: /^Plan: web-1 from messina to inquadro/,
  },
  {
    argv: ["advise", "--policy", "threshold"],
    asks: ["advice.make", { policy: "threshold" }],
    says: `\
Policy threshold: load 85%, high mark 80%; this cloud's load is 85%

web-1: go to inquadro
  load 85% here, 30% at inquadro with it
db: stays
  others are enough, or better ones to go

To follow the advice:
  tessera migrate web-1 --to inquadro
`,
  },
  {
    argv: ["migration", "ls"],
    asks: ["migration.list", {}],
    says: `\
MIGRATION                             MACHINE  ROLE    PEER      STATE      OUTCOME    STARTED
${id}  web-1    source  inquadro  completed  completed  2026-11-22 12:00:00Z
`,
  },
  {
    argv: ["migration", "show", id],
    asks: ["migration.show", { migration: id }],
    says: /^Receipt: web-1 went/m,
  },
  {
    argv: ["migration", "cancel", id],
    asks: ["migration.cancel", { migration: id }],
    says: `migration ${id} of web-1: aborted\n`,
  },
  {
    argv: ["migration", "resolve", id, "--give-up-here", "--fenced"],
    asks: ["migration.resolve", { migration: id, outcome: "give-up-here", fenced: true }],
    says: /^Receipt: web-1/,
  },
];

for (const { argv, asks, says, files = {} } of CASES) {
  test(`tessera ${argv.join(" ")}`, async () => {
    await withAgent(HANDLERS, async (agent) => {
      for (const [name, text] of Object.entries(files)) {
        await writeFile(join(agent.directory, name), text);
      }
      const text = await runWith(agent, argv);
      assert.equal(text.code, 0, text.err);
      if (typeof says === "string") assert.equal(text.out, says);
      else assert.match(text.out, says);
      const [name, input] = asks;
      const wanted = JSON.parse(
        JSON.stringify(input).replaceAll("DIRECTORY", agent.directory),
      ) as unknown;
      assert.deepEqual(JSON.parse(JSON.stringify(agent.calls)), [{ name, input: wanted }]);
      const json = await runWith(agent, [...argv, "--json"]);
      assert.equal(json.code, 0, json.err);
      assert.equal(json.err, "");
      assert.doesNotThrow(() => JSON.parse(json.out) as unknown, json.out);
    });
  });
}

test("--json prints the API's answer", async () => {
  await withAgent(HANDLERS, async (agent) => {
    const { out } = await runWith(agent, ["machine", "ls", "--json"]);
    assert.deepEqual(JSON.parse(out), JSON.parse(JSON.stringify({ machines: [sample.MACHINE] })));
  });
});

test("several components are removed one after the other", async () => {
  await withAgent(HANDLERS, async (agent) => {
    await runWith(agent, ["component", "rm", "a", "b"]);
    const inputs = agent.calls.map(({ input }) => input);
    assert.deepEqual(JSON.parse(JSON.stringify(inputs)), [{ component: "a" }, { component: "b" }]);
  });
});

test("a corrupt repository and an appliance that does not fit have exit codes", async () => {
  const handlers: Partial<Handlers> = {
    "component.verify": () =>
      Promise.resolve({
        components: 1,
        blobs: 3,
        bytes: 5,
        findings: [{ digest: sample.NGINX.id, problem: "digest" as const }],
      }),
    "appliance.check": () =>
      Promise.resolve({ appliance: sample.APPLIANCE, fits: false, unmet: [] }),
  };
  await withAgent(handlers, async (agent) => {
    assert.equal((await runWith(agent, ["component", "verify"])).code, 6);
    await writeFile(join(agent.directory, "a.yaml"), "");
    assert.equal((await runWith(agent, ["appliance", "check", "a.yaml"])).code, 3);
  });
});

test("errors of the agent reach the user, with exit codes by their class", async () => {
  const cases: [Error, number, RegExp][] = [
    [
      refusal("agent.machine-unknown"),
      4,
      /^error agent\.machine-unknown: it was refused\n {2}about: it\n {2}what to do: do not\n$/,
    ],
    [refusal("agent.machine-running"), 3, /machine-running/],
    [refusal("compose.constraint-unmet"), 3, /constraint-unmet/],
    [refusal("agent.machine-invalid"), 2, /machine-invalid/],
    [new TesseraError("peer", "federation.timeout", "x"), 3, /federation\.timeout: x/],
    [new TesseraError("corrupt", "repository.blob-corrupt", "x"), 6, /blob-corrupt/],
    [new TesseraError("environment", "system.disk-full", "x"), 5, /disk-full/],
    [new Error("what?"), 1, /core\.unexpected: what\?\n.*report it/],
  ];
  for (const [error, code, says] of cases) {
    await withAgent({ "machine.show": () => Promise.reject(error) }, async (agent) => {
      const text = await runWith(agent, ["machine", "show", "x"]);
      assert.equal(text.code, code);
      assert.equal(text.out, "");
      assert.match(text.err, says);
      const json = await runWith(agent, ["machine", "show", "x", "--json"]);
      const { error: report } = JSON.parse(json.err) as { error: { message: string } };
      assert.equal(report.message, error.message);
    });
  }
});

const USAGE: readonly (readonly [readonly string[], RegExp])[] = [
  [["nonsense"], /cli\.usage: unknown command 'nonsense'/],
  [["machine", "strat"], /unknown command 'strat'\s+\(Did you mean start\?\)/],
  [["machine", "ls", "--colour"], /unknown option '--colour'/],
  [["machine", "ls", "extra"], /too many arguments/],
  [["machine", "show"], /missing required argument 'machine'/],
  [["machine", "create", "x"], /a machine is made of an appliance or of features/],
  [["machine", "create", "x", "--appliance", "a", "--file", "oops"], /is not GUEST=HOST/],
  [["import", "x"], /the machine needs a name/],
  [["import", "x", "--name", "a", "--port", "80"], /write for instance http=80/],
  [["import", "x", "--name", "a", "--cpus", "many"], /give a whole number/],
  [["export", "web-1"], /required option '--format/],
  [["export", "web-1", "--format", "zip"], /Allowed choices are qcow2/],
  [["import", "x", "--name", "a", "--format", "zip"], /Allowed choices are raw, qcow2/],
  [["machine", "start", "x", "--timeout", "soon"], /cli\.duration-invalid/],
  [["machine", "console", "x", "--offset", "-1"], /is not a number of bytes/],
  [["migrate", "x", "--bwlimit", "fast"], /core\.rate-invalid: "fast" is not a rate/],
  [["component", "add"], /nothing to add/],
  [["component", "add", "--image", "x", "--oci", "y"], /cannot be used with option '--oci/],
  [["component", "ls", "--kind", "disk"], /Allowed choices are kernel, os, program/],
  [["migration", "resolve", "m"], /give one of --keep-here and --give-up-here/],
  [["migration", "resolve", "m", "--keep-here", "--give-up-here"], /give one of/],
  [["migration", "resolve", "m", "--keep-here"], /cli\.not-fenced/],
  [["completion", "csh"], /Allowed choices are bash, zsh, fish/],
];

for (const [argv, says] of USAGE) {
  test(`bad usage: tessera ${argv.join(" ")}`, async () => {
    const text = await run(argv);
    assert.deepEqual([text.code, text.out], [2, ""]);
    assert.match(text.err, says);
    const json = await run([...argv, "--json"]);
    assert.equal(json.code, 2);
    if (argv[0] === "completion") return;
    const { error } = JSON.parse(json.err) as { error: { fault: string } };
    assert.equal(error.fault, "misuse");
  });
}

test("help has examples, and says nothing on standard error", async () => {
  for (const argv of [["--help"], ["machine", "create", "--help"], ["migrate", "-h"]]) {
    const { code, out, err } = await run(argv);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, /\nExamples:\n {2}tessera /);
  }
  assert.match((await run(["--help"])).out, /Exit codes: 0 done/);
  assert.match((await run(["migration", "resolve", "--help"])).out, /two copies run\s+and write/);
  assert.equal((await run(["--version"])).out, "0.0.0\n");
});

test("a group without a command prints its help and is wrong usage", async () => {
  const { code, out, err } = await run(["machine"]);
  assert.deepEqual([code, out], [2, ""]);
  assert.match(err, /^Usage: tessera machine/);
});

test("files that are missing or wrong are told", async () => {
  await withAgent(HANDLERS, async (agent) => {
    await writeFile(join(agent.directory, "bad.json"), "{");
    await writeFile(join(agent.directory, "card.json"), '{"format":"tessera-card/1","cloud":"x"}');
    await writeFile(join(agent.directory, "other.json"), '{"format":"tessera-card/2"}');
    await writeFile(join(agent.directory, "latin1.yaml"), Buffer.from([0xe9]));
    await mkdir(join(agent.directory, "folder"));
    const cases: [string[], number, RegExp][] = [
      [["appliance", "add", "none.yaml"], 4, /cli\.file-not-found: there is no file .*none\.yaml/],
      [["appliance", "add", "latin1.yaml"], 2, /cli\.file-unreadable: .*is not UTF-8/],
      [["appliance", "add", "folder"], 2, /cli\.file-unreadable/],
      [["agent", "trust", "bad.json"], 2, /cli\.json-invalid/],
      [["agent", "trust", "card.json"], 2, /cli\.card-invalid: domain: /],
      [["agent", "trust", "other.json"], 2, /cli\.card-invalid: this is no card/],
      [
        ["component", "add", "--image", "x", "--description", "card.json"],
        2,
        /cli\.description-invalid/,
      ],
    ];
    for (const [argv, code, says] of cases) {
      const ran = await runWith(agent, argv);
      assert.equal(ran.code, code, ran.err);
      assert.match(ran.err, says);
    }
    assert.deepEqual(agent.calls, []);
  });
});

test("files for a machine carry their content and permissions; --start starts it", async () => {
  await withAgent(HANDLERS, async (agent) => {
    const path = join(agent.directory, "run.sh");
    await writeFile(path, "#!/bin/sh\n");
    await chmod(path, 0o750);
    const file = "/srv/run=it.sh=run.sh";
    const argv = ["machine", "create", "w", "--appliance", "web", "--start", "--file"];
    const wrong = await runWith(agent, [...argv, file]);
    assert.equal(wrong.code, 4, "the first = ends the guest's path");
    const { code } = await runWith(agent, [...argv, "/srv/run.sh=run.sh"]);
    assert.equal(code, 0);
    const contentBase64 = Buffer.from("#!/bin/sh\n").toString("base64");
    assert.deepEqual(JSON.parse(JSON.stringify(agent.calls)), [
      {
        name: "machine.create",
        input: {
          name: "w",
          appliance: "web",
          files: [{ path: "/srv/run.sh", contentBase64, mode: 0o750 }],
        },
      },
      { name: "machine.start", input: { machine: sample.UUID } },
    ]);
  });
});

test("the agent's own program gets its arguments as they were given", async () => {
  const ran: (readonly string[])[] = [];
  const options: RunOptions = {
    directory: "/d",
    runAgent: (args) => {
      ran.push(args);
      return Promise.resolve(7);
    },
  };
  const init = ["init", "dir", "--name", "n", "--domain", "d.example", "--data-port", "1"];
  assert.equal((await run(["agent", ...init], options)).code, 7);
  assert.equal((await run(["agent", "run", "run"], options)).code, 7);
  assert.equal((await run(["agent", "card", "--dir", "x"], options)).code, 7);
  assert.equal((await run(["agent", "trust", "c.json", "--dir", "x"], options)).code, 7);
  assert.deepEqual(ran, [init, ["run", "run"], ["card", "/d/x"], ["trust", "/d/x", "/d/c.json"]]);
});

const RECIPE = "kind: program\nname: nginx\nbase: debian-12\npackages: [nginx]\n";
const building: Partial<Handlers> = {
  "component.build": (_, { progress }) => {
    progress({ step: "download", detail: "nginx 1.22", done: 1, total: 12 });
    progress({ step: "image", detail: "nginx" });
    return Promise.resolve({ component: sample.NGINX, lock: "the lock\n" });
  },
};

test("a recipe is sent with its base and locks, and its new lock is written beside", async () => {
  await withAgent(building, async (agent) => {
    const at = (name: string): string => join(agent.directory, name);
    await writeFile(at("nginx.yaml"), RECIPE);
    const missing = await runWith(agent, ["component", "build", "nginx.yaml"]);
    assert.match(missing.err, /cli\.base-missing: the base "debian-12" has no recipe/);
    await writeFile(at("debian-12.yml"), "kind: os\n");
    const unlocked = await runWith(agent, ["component", "build", "nginx.yaml"]);
    assert.match(unlocked.err, /cli\.base-unlocked/);
    await writeFile(at("debian-12.lock.json"), "os lock");
    const built = await runWith(agent, ["component", "build", "nginx.yaml"]);
    assert.equal(built.code, 0, built.err);
    assert.match(built.out, /^program {2}nginx/m);
    assert.equal(await readFile(at("nginx.lock.json"), "utf8"), "the lock\n");
    assert.deepEqual(
      built.err
        .split("\n")
        .slice(0, 2)
        .map((line) => JSON.parse(line) as unknown),
      [
        { progress: { step: "download", detail: "nginx 1.22", done: 1, total: 12 } },
        { progress: { step: "image", detail: "nginx" } },
      ],
    );
    assert.match(built.err, /^wrote nginx\.lock\.json$/m);
    const again = await runWith(agent, ["component", "build", "nginx.yaml", "--relock"]);
    assert.doesNotMatch(again.err, /wrote/);
    const bases = [
      {
        recipe: { fileName: "debian-12.yml", text: "kind: os\n" },
        lock: { fileName: "debian-12.lock.json", text: "os lock" },
      },
    ];
    const recipe = { fileName: "nginx.yaml", text: RECIPE };
    const lock = { fileName: "nginx.lock.json", text: "the lock\n" };
    assert.deepEqual(JSON.parse(JSON.stringify(agent.calls.map(({ input }) => input))), [
      { recipe, bases },
      { recipe, lock, bases, relock: true },
    ]);
    const left = (await readdir(agent.directory)).filter((name) => name.includes(".part"));
    assert.deepEqual(left, []);
  });
});

test("a recipe that is not YAML goes to the agent, which tells where; one on itself does not", async () => {
  const handlers: Partial<Handlers> = {
    "component.build": () => Promise.reject(refusal("build.recipe-invalid")),
  };
  await withAgent(handlers, async (agent) => {
    await writeFile(join(agent.directory, "x.yaml"), "a: [");
    const ran = await runWith(agent, ["component", "build", "x.yaml"]);
    assert.match(ran.err, /build\.recipe-invalid/);
    await writeFile(join(agent.directory, "y.yaml"), "base: y\n");
    await writeFile(join(agent.directory, "y.lock.json"), "{}");
    const own = await runWith(agent, ["component", "build", "y.yaml"]);
    assert.match(own.err, /cli\.base-cycle/);
  });
});

test("a lock that cannot be written is told, and leaves nothing behind", async () => {
  await withAgent(building, async (agent) => {
    await writeFile(join(agent.directory, "x.yaml"), "kind: os\n");
    await mkdir(join(agent.directory, "x.lock.json"));
    const ran = await runWith(agent, ["component", "build", "x.yaml"]);
    assert.match(ran.err, /cli\.file-unreadable/);
    assert.deepEqual((await readdir(agent.directory)).toSorted(), [
      "agent.sock",
      "x.lock.json",
      "x.yaml",
    ]);
  });
});

test("building shows its steps on a terminal, each over the one before", async () => {
  await withAgent(building, async (agent) => {
    await writeFile(join(agent.directory, "x.yaml"), "kind: os\n");
    const ran = await runWith(agent, ["component", "build", "x.yaml"], { columns: 60 });
    assert.equal(
      ran.err,
      "download: 1 of 12 nginx 1.22\n\u001b[1A\u001b[Jimage: nginx\nwrote x.lock.json\n",
    );
  });
});

test("the console is copied to its end, and followed until interrupted", async () => {
  const log = "boot\u001b[2J\nlogin\n";
  const handlers: Partial<Handlers> = {
    "machine.console": ({ offset = 0 }) => {
      const text = log.slice(offset, offset + 4);
      return Promise.resolve({ text, offset: offset + text.length, sizeBytes: log.length });
    },
  };
  await withAgent(handlers, async (agent) => {
    const argv = ["machine", "console", "web-1"];
    assert.equal((await runWith(agent, argv)).out, log);
    assert.equal((await runWith(agent, argv, { columns: 80 })).out, "boot[2J\nlogin\n");
    assert.equal((await runWith(agent, [...argv, "--offset", "9"])).out, log.slice(9));
    const interruption = new AbortController();
    let slept = 0;
    const options: RunOptions = {
      interrupted: interruption.signal,
      sleep: () => {
        slept += 1;
        if (slept < 3) return Promise.resolve();
        const reason = new TesseraError("environment", "cli.interrupted", "interrupted");
        interruption.abort(reason);
        return Promise.reject(reason);
      },
    };
    const followed = await runWith(agent, [...argv, "--follow"], options);
    assert.deepEqual([followed.code, followed.out, slept], [130, log, 3]);
  });
});
