import assert from "node:assert/strict";
import { test } from "node:test";
import { renderImport } from "./render-import.ts";
import { renderError, renderErrorJson } from "./render-error.ts";
import {
  renderAgent,
  renderAppliance,
  renderCheck,
  renderCloud,
  renderCollect,
  renderComponent,
  renderMachine,
  renderVerify,
} from "./render-lists.ts";
import { renderMigration, renderProgress } from "./render-migration.ts";
import { renderChoice, renderPlan, renderReceipt } from "./render-plan.ts";
import { renderSize, renderTable, renderTime } from "./render-table.ts";
import * as sample from "./samples.suite.ts";
import { parseDuration, parseTime, printable } from "./values.ts";

const zeroes = (digit: string): string => `sha256:${digit.repeat(64)}`;

test("a plan is told component by component", () => {
  assert.equal(
    renderPlan(sample.PLAN, "web-1"),
    `\
Plan: web-1 from messina to inquadro, cold, average case: the destination holds some of the components

  COMPONENT               KIND        SIZE  THERE       HELD  PATCHED  MISSING  TO MOVE
  debian-cloud 6.1.129-1  kernel   62.1 MB  held     62.1 MB                        0 B
  debian-12 12.8          os        240 MB  held      240 MB                        0 B
  nginx 1.22.1-9          program   4.5 MB  in part   900 kB   1.2 MB   2.3 MB   1.7 MB
  user data               data     30.0 MB  -                                    9.0 MB
  total                                                                         10.8 MB

expected time  1.7 s at 50.0 Mbit/s, the limit given
as one block   210 MB; this moves 5.1% of it
note: the machine is stopped while its user data moves
`,
  );
});

test("a plan without a monolithic figure, with a price, by its UUID", () => {
  const text = renderPlan({
    ...sample.PLAN,
    monolithicBytes: 0,
    price: 0.0123,
    rate: { bitsPerSecond: 1e6, from: "assumed" },
  });
  assert.match(text, /^Plan: 6fa459ea/);
  assert.match(text, /as one block +0 B\n/);
  assert.match(text, /price +0\.0123\n/);
  assert.match(text, /at 1\.0 Mbit\/s, assumed\n/);
});

test("a receipt tells bytes and time by phase", () => {
  assert.equal(
    renderReceipt(sample.RECEIPT, "web-1"),
    `\
Receipt: web-1 went from messina to inquadro, cold, average case

  COMPONENT     DIGEST                                                    BYTES
  debian-cloud  111111111111  held                                          0 B
  debian-12     222222222222  held                                          0 B
  nginx         333333333333  moved from catania, messina, 900 kB held   1.6 MB
  user data     dddddddddddd  moved                                      9.1 MB
  on the wire                                                           10.8 MB

  PHASE         TIME
  negotiate   420 ms
  components   1.9 s
  compose     800 ms
  stop         3.1 s
  user data    1.5 s
  boot        21.4 s

downtime     23.7 s
stop         the guest shut down by itself
compression  plain 1.0 MB, solid-19 3.5 MB to 650 kB
migration    1b4e28ba-2fa1-41d2-883f-0016d3cca427
started      2026-11-22 12:00:00Z
took         29.1 s
signed by    inquadro, messina
`,
  );
});

test("a choice names the clouds that were considered", () => {
  assert.equal(
    renderChoice({
      cloud: "inquadro",
      reason: "moves the fewest bytes",
      considered: [
        { cloud: "inquadro", accepted: true, reason: "10.8 MB to move" },
        { cloud: "roma", accepted: false, reason: "too little memory" },
      ],
    }),
    `\
Destination: inquadro: moves the fewest bytes
  CLOUD           REASON
  inquadro  fits  10.8 MB to move
  roma      no    too little memory

`,
  );
});

test("a migration in its course", () => {
  const { receipt: _, outcome: __, ended_ms: ___, ...status } = sample.STATUS;
  assert.equal(
    renderMigration({
      ...status,
      state: "serving",
      phase: "components",
      note: "sending nginx",
      streams: [
        {
          stream: zeroes("3"),
          name: "nginx",
          doneBytes: 2e6,
          totalBytes: 4.5e6,
          wireBytes: 7e5,
          savedBytes: 9e5,
          sources: ["catania", "messina"],
        },
        { stream: "memory", name: "memory", doneBytes: 3e6, totalBytes: 4e6, pass: 2 },
      ],
      error: sample.ERROR,
    }),
    `\
migration  1b4e28ba-2fa1-41d2-883f-0016d3cca427
machine    web-1 (6fa459ea-ee8a-4ca4-894e-db77e160355e)
this side  source; the other cloud is inquadro
state      serving
phase      components
outcome    goes on
started    2026-11-22 12:00:00Z
note       sending nginx

STREAM            DONE      OF    WIRE   SAVED  FROM
nginx           2.0 MB  4.5 MB  700 kB  900 kB  catania, messina
memory, pass 2  3.0 MB  4.0 MB

error federation.unreachable: inquadro does not answer
  about: inquadro
  what to do: wait, or choose another cloud

TIME                  STATE     EVENT          DETAIL
2026-11-22 12:00:00Z  proposed  start
2026-11-22 12:00:00Z  serving   peer-accepted  1 missing
`,
  );
});

const PROGRESS = {
  migration: "m",
  state: "serving",
  phase: "components",
  bitsPerSecond: 48e6,
  streams: [
    { stream: zeroes("3"), name: "nginx", doneBytes: 2e6, totalBytes: 4.5e6 },
    { stream: "userData", name: "user data", doneBytes: 0, totalBytes: 30e6 },
    { stream: zeroes("4"), name: "empty", doneBytes: 0, totalBytes: 0 },
  ],
} as const;

test("progress as bars, within the terminal", () => {
  assert.deepEqual(renderProgress(PROGRESS, 80), [
    "serving (components), 48.0 Mbit/s",
    "nginx     [#################.......................]  44%  2.0 MB of 4.5 MB",
    "user data [........................................]   0%  0 B of 30.0 MB",
    "empty     [########################################] 100%  0 B of 0 B",
  ]);
  for (const columns of [1, 10, 30, 40, 200]) {
    const lines = renderProgress({ ...PROGRESS, note: "n".repeat(300) }, columns);
    for (const line of lines) assert.ok(line.length < Math.max(2, columns), `${columns}: ${line}`);
  }
});

test("an error for people and for programs", () => {
  assert.equal(
    renderError(sample.ERROR),
    `\
error federation.unreachable: inquadro does not answer
  about: inquadro
  what to do: wait, or choose another cloud
`,
  );
  assert.equal(
    renderErrorJson(sample.ERROR),
    '{"error":{"code":"federation.unreachable","fault":"peer","message":"inquadro does not answer",' +
      '"subject":"inquadro","remedy":"wait, or choose another cloud"}}\n',
  );
  const bug = renderError({ code: "core.unexpected", fault: "bug", message: "x" });
  assert.match(bug, /please report it/);
});

test("nothing that another cloud or a guest says commands the terminal", () => {
  const evil = "\u001b[2Jname\u0007\u009b31m\r\u007f";
  assert.equal(printable(evil), "[2Jname31m");
  const texts = [
    renderTable([{ title: "" }], [[evil]]),
    renderError({ ...sample.ERROR, message: evil, subject: evil, remedy: evil }),
    renderPlan({ ...sample.PLAN, destination: evil, notes: [evil] }),
    renderProgress({ ...PROGRESS, note: evil }, 80).join(""),
    renderChoice({ cloud: evil, reason: evil, considered: [] }),
  ];
  // oxlint-disable-next-line no-control-regex
  for (const text of texts) assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
});

test("an appliance, and the check of one that does not fit", () => {
  const appliance = `\
name           web
digest         ${zeroes("a")}
cpus           1
memory         512 MiB
user data      1 GiB
ports          http: 80
downtime       no limit
clouds         any
regions        eu
priority       50
may be slowed  no

KIND     COMPONENT               SIZE     ID
kernel   debian-cloud 6.1.129-1  62.1 MB  111111111111
os       debian-12 12.8          240 MB   222222222222
program  nginx 1.22.1-9          4.5 MB   333333333333
`;
  assert.equal(renderAppliance(sample.APPLIANCE), appliance);
  const alternatives = [{ type: "package", name: "libc7" }] as const;
  const unmet = [
    {
      component: sample.NGINX.id,
      componentName: "nginx",
      level: "binary",
      need: { type: "soname", name: "libc.so.6", version: "GLIBC_2.38" },
      found: "GLIBC_2.36",
    },
    {
      component: sample.NGINX.id,
      componentName: "nginx",
      level: "package",
      need: { type: "package", name: "libc6", version: "2.38", relation: ">>", alternatives },
    },
    {
      component: sample.OS.id,
      componentName: "debian-12",
      level: "architecture",
      need: { type: "architecture", name: "arm64" },
    },
  ] as const;
  assert.equal(
    renderCheck({ appliance: sample.APPLIANCE, fits: false, unmet }),
    `\
web: does not fit
  LEVEL         COMPONENT  NEEDS                                   FOUND
  binary        nginx      soname libc.so.6 >= GLIBC_2.38          GLIBC_2.36
  package       nginx      package libc6 >> 2.38 or package libc7  nothing
  architecture  debian-12  architecture arm64                      nothing

${appliance}`,
  );
});

test("single things as members", () => {
  assert.equal(
    renderComponent({ component: sample.KERNEL, pinnedBy: ["machine web-1"] }),
    `\
id              ${zeroes("1")}
kind            kernel
name            debian-cloud
version         6.1.129-1
architecture    amd64
size            62.1 MB (62100000 bytes)
kernel          6.1.0-32-cloud-amd64
manifest        ${zeroes("f")}
packages        1 package
provides        1 constraint
requires        0 constraints
instance paths  -
used by         machine web-1
`,
  );
  assert.equal(
    renderMachine(sample.MACHINE),
    `\
name        web-1
uuid        6fa459ea-ee8a-4ca4-894e-db77e160355e
state       running
appliance   web (aaaaaaaaaaaa)
components  debian-cloud 6.1.129-1, debian-12 12.8, nginx 1.22.1-9
cpus        1
memory      512 MiB
user data   1 GiB
ports       http=127.0.0.1:40080
created     2026-11-22 12:00:00Z
`,
  );
  assert.equal(
    renderCloud(sample.CLOUD, sample.OFFER),
    `\
cloud          inquadro
agent          agent@inquadro.example/agent
region         eu
receives       yes
cpus free      6
memory free    8.0 GB
storage free   120 GB
link           50.0 Mbit/s
price per GB   0.09
accelerators   tcg
cpu models     qemu64
formats        raw, qcow2
architectures  amd64
components     2
offer          number 7, confirmed, until 2026-11-22 12:01:00Z
`,
  );
  assert.equal(
    renderAgent({
      ...sample.INFO,
      transport: { state: "offline", detail: "the server refused the connection" },
      dataPort: 0,
    }),
    `\
cloud        messina
domain       messina.example
version      0.1.0
directory    /var/lib/tessera
agent        agent@messina.example
fingerprint  ${zeroes("b")}
federation   offline: the server refused the connection
data port    does not listen
accelerator  tcg
started      2026-11-22 12:00:00Z
`,
  );
});

test("reports of verification and collection", () => {
  const digest = sample.NGINX.id;
  const finding = { digest, component: "nginx", problem: "digest" } as const;
  assert.equal(
    renderVerify({ components: 3, blobs: 9, bytes: 3e8, findings: [finding] }),
    `\
read 3 components and 9 blobs, 300 MB: 1 problem
PROBLEM  COMPONENT  DIGEST
digest   nginx      ${digest}
`,
  );
  assert.equal(
    renderCollect({ removed: [{ digest, sizeBytes: 4_500_000 }], bytes: 4_500_000, dryRun: true }),
    `would remove 1 blob, 4.5 MB\n  4.5 MB  ${digest}\n`,
  );
});

test("sizes, times and durations", () => {
  assert.equal(renderSize(512 * 2 ** 20), "512 MiB");
  assert.equal(renderSize(3 * 2 ** 30), "3 GiB");
  assert.equal(renderSize(0), "0 B");
  assert.equal(renderSize(1_000_000), "1.0 MB");
  assert.equal(renderTime(Number.MAX_VALUE), "?");
  assert.equal(parseDuration("500ms"), 500);
  assert.equal(parseDuration("1.5"), 1500);
  assert.equal(parseDuration("2min"), 120_000);
  for (const bad of ["", "s", "-1s", "1h", "1 s 2", "1e3"]) {
    assert.throws(() => parseDuration(bad), { code: "cli.duration-invalid" }, bad);
  }
});

test("times are the next on the clock, from now on, or dates", () => {
  const now_ms = new Date(2026, 10, 30, 12, 0, 0).getTime();
  const at = (text: string): number => parseTime(text, now_ms);
  assert.equal(at("12:30"), now_ms + 30 * 60_000);
  assert.equal(new Date(at("12:00")).getDate(), 1);
  assert.equal(at("+90s"), now_ms + 90_000);
  assert.equal(at("2026-11-30T03:00Z"), Date.UTC(2026, 10, 30, 3));
  for (const bad of ["", "24:00", "3", "soon", "2026-11-30", "+", "2026-13-40T99:00"]) {
    assert.throws(() => at(bad), /is not a (time|duration)/, bad);
  }
});

test("an import says which package database it did not read", () => {
  const { survey } = sample.IMPORT;
  const packages = { count: 0, bytes: 0, intactBytes: 0 };
  const told = (more: object): string =>
    renderImport({ ...sample.IMPORT, survey: { ...survey, packages: { ...packages, ...more } } });
  const whole = "the whole root is one component";
  assert.ok(told({}).includes(`no package database that is known: ${whole}`));
  assert.ok(told({ unread: "rpm" }).includes(`package database of rpm is not supported: ${whole}`));
});
