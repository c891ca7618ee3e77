/** What operators write for cloud-init, and the JSON of container images. */
import { cloudInitParts } from "#compose";
import { chooseManifest, decodeContainerConfig, decodeContainerManifest } from "#repository";
import { changedJson } from "../json.ts";
import { mutate, type FuzzRandom } from "../random.ts";
import type { FuzzTarget } from "../target.ts";

const GUEST = {
  packages: new Set(["systemd", "tzdata", "sudo", "openssh-server"]),
  textOf: async (path: string) => (path === "/etc/passwd" ? "root:x:0:0:root:/root:/bin/sh\n" : ""),
};
const MACHINE = { uuid: "0b0c0d0e-1111-4222-8333-444455556666", hostname: "web-1" };
const CODES = ["compose.cloud-init-invalid", "compose.cloud-init-unsupported"];

const USER_DATA = `#cloud-config
hostname: web
users:
  - default
  - {name: ada, groups: "sudo, dev", uid: 1500, passwd: $6$a$b, lock_passwd: false}
ssh_authorized_keys: [ssh-ed25519 AAAA a]
write_files:
  - {path: /srv/a, content: aGVsbG8=, encoding: b64, owner: 'ada:dev', permissions: '0640'}
runcmd: [echo "$HOME", [printf, it's, 3]]
timezone: Europe/Rome
`;
const NETWORKS = [
  "network: {version: 2, ethernets: {lan: {match: {name: 'en*'}, addresses: [192.0.2.2/24], routes: [{to: default, via: 192.0.2.1}], nameservers: {addresses: [192.0.2.53], search: [example.org]}}}}",
  "version: 1\nconfig:\n- {type: physical, name: eth0, subnets: [{type: static, address: 10.0.0.2, netmask: 255.255.0.0}]}\n",
];

/** Lines and marks of YAML, put together anew. */
function lines(random: FuzzRandom, seeds: readonly Buffer[]): Buffer {
  const all = seeds.flatMap((seed) => seed.toString("latin1").split(/(?<=[\n,{}[\]:])/));
  const marks = ["- ", "  ", "&a ", "*a", "<<: *a", "!!set", "|", ">-", "? ", "'", "\t", "...\n"];
  const picked = Array.from({ length: random.below(40) }, () =>
    random.chance(0.2) ? random.pick(marks) : random.pick(all),
  );
  return Buffer.from(`#cloud-config\n${picked.join("")}`, "latin1");
}

function yaml(
  name: string,
  key: "userData" | "networkConfig",
  texts: readonly string[],
): FuzzTarget {
  return {
    name,
    codes: CODES,
    seeds: () => texts.map((text) => Buffer.from(text)),
    generate: (random, seeds) =>
      random.chance(0.5) ? lines(random, seeds) : mutate(random, seeds),
    decode: (input) => cloudInitParts({ [key]: input.toString("utf8") }, GUEST, MACHINE),
  };
}

const blob = { digest: `sha256:${"0".repeat(64)}`, size: 5 };
const OCI = "application/vnd.oci.image";
const platform = { os: "linux", architecture: "amd64" };

const JSONS: readonly (readonly [unknown, (content: Uint8Array) => unknown])[] = [
  [
    { schemaVersion: 2, manifests: [{ mediaType: `${OCI}.manifest.v1+json`, platform, ...blob }] },
    (content) => chooseManifest(content, { platform }),
  ],
  [
    {
      schemaVersion: 2,
      config: { mediaType: `${OCI}.config.v1+json`, ...blob },
      layers: [{ mediaType: `${OCI}.layer.v1.tar+gzip`, ...blob }],
    },
    decodeContainerManifest,
  ],
  [{ ...platform, rootfs: { type: "layers", diff_ids: [blob.digest] } }, decodeContainerConfig],
];

const containerJson: FuzzTarget = {
  name: "container-json",
  codes: ["invalid", "unsupported", "unknown"].map((end) => `repository.container-${end}`),
  // The first byte says which of them it is.
  seeds: () => JSONS.map(([value], at) => Buffer.from(`${at}${JSON.stringify(value)}`)),
  generate: (random, seeds) => {
    const seed = random.pick(seeds);
    const changed = changedJson(random, [seed.subarray(1)]);
    return Buffer.concat([seed.subarray(0, 1), changed]);
  },
  decode: (input) => JSONS[(input[0] ?? 0) % JSONS.length]?.[1](input.subarray(1)),
};

export const CLOUD_INIT_TARGETS: readonly FuzzTarget[] = [
  yaml("user-data", "userData", [USER_DATA]),
  yaml("network-config", "networkConfig", NETWORKS),
  containerJson,
];
