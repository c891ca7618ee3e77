/**
 * skopeo between two registries: the new image is the old one as a layer, which the receiver's
 * registry holds, and a layer of the files that differ, as a Dockerfile would make it. Layers are
 * compressed by gzip, as is usual; making and uploading them is not counted.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { ADDRESSES, Link } from "../link.ts";
import { prepare, run, start, type Pair, type Tool } from "../scene.ts";

const PORT = 5000;

function registry(link: Link, side: "sender" | "receiver", root: string): void {
  const settings = `${root}.yml`;
  const http = `http: { addr: "0.0.0.0:${PORT}" }`;
  const log = "log: { level: error, accesslog: { disabled: true } }";
  const storage = `storage: { filesystem: { rootdirectory: ${root} } }`;
  writeFileSync(settings, `version: 0.1\n${log}\n${storage}\n${http}\n`);
  start(link, side, `exec docker-registry serve ${settings} >/dev/null 2>&1`);
}

/** The tree of an image, by loop mount. */
function mounted(image: string, at: string, then: string): void {
  mkdirSync(at, { recursive: true });
  prepare(`mount -o loop,ro ${image} ${at}; trap 'umount ${at}' EXIT; ${then}`);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Puts a layer, a gzipped tar, under its digest into an OCI layout. */
function layer(layout: string, tar: string): { digest: string; size: number; diff: string } {
  const diff = sha256(readFileSync(tar));
  prepare(`gzip -6 -n ${tar}`);
  const digest = sha256(readFileSync(`${tar}.gz`));
  const size = statSync(`${tar}.gz`).size;
  prepare(`mv ${tar}.gz ${layout}/blobs/sha256/${digest}`);
  return { digest, size, diff };
}

function blob(layout: string, value: unknown): { digest: string; size: number } {
  const bytes = Buffer.from(JSON.stringify(value));
  const digest = sha256(bytes);
  writeFileSync(`${layout}/blobs/sha256/${digest}`, bytes);
  return { digest: `sha256:${digest}`, size: bytes.length };
}

const TYPE = "application/vnd.oci.image";

/** An OCI layout with one image of the given layers. */
function makeLayout(layout: string, tars: readonly string[]): void {
  mkdirSync(`${layout}/blobs/sha256`, { recursive: true });
  const layers = tars.map((tar) => layer(layout, tar));
  const rootfs = { type: "layers", diff_ids: layers.map(({ diff }) => `sha256:${diff}`) };
  const config = blob(layout, { architecture: "amd64", os: "linux", rootfs });
  const manifest = blob(layout, {
    schemaVersion: 2,
    mediaType: `${TYPE}.manifest.v1+json`,
    config: { mediaType: `${TYPE}.config.v1+json`, ...config },
    layers: layers.map(({ digest, size }) => {
      return { mediaType: `${TYPE}.layer.v1.tar+gzip`, digest: `sha256:${digest}`, size };
    }),
  });
  const entry = { mediaType: `${TYPE}.manifest.v1+json`, ...manifest };
  writeFileSync(`${layout}/index.json`, JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
  writeFileSync(`${layout}/oci-layout`, JSON.stringify({ imageLayoutVersion: "1.0.0" }));
}

/** Layers of the pair: what is held, and the files that differ from it. */
function makeTars(pair: Pair, prepared: string): string[] {
  const [whole, changed] = [`${prepared}/whole.tar`, `${prepared}/changed.tar`];
  const mount = `${prepared}/mounted`;
  if (pair.old === undefined) {
    mounted(`${pair.new}/image`, mount, `tar -C ${mount} -cf ${whole} .`);
    return [whole];
  }
  mounted(`${pair.old}/image`, mount, `tar -C ${mount} -cf ${whole} .`);
  const tree = `${prepared}/old`;
  prepare(`mkdir -p ${tree}; tar -C ${tree} -xf ${whole}`);
  const difference = `${prepared}/difference`;
  const compare = `rsync -a --checksum --compare-dest=${tree}/ ${mount}/ ${difference}/`;
  const pack = `find ${difference} -type d -empty -delete; tar -C ${difference} -cf ${changed} .`;
  mounted(`${pair.new}/image`, mount, `${compare}; ${pack}`);
  prepare(`rm -rf ${tree} ${difference}`);
  return [whole, changed];
}

async function upload(root: string, layouts: Readonly<Record<string, string>>): Promise<void> {
  using link = await Link.open();
  registry(link, "sender", root);
  await link.listening("sender", PORT);
  for (const [tag, layout] of Object.entries(layouts)) {
    const to = `docker://127.0.0.1:${PORT}/image:${tag}`;
    await run(link, "sender", `skopeo copy -q --dest-tls-verify=false oci:${layout} ${to}`);
  }
}

export const SKOPEO: Tool = {
  name: "skopeo",
  how: "`skopeo copy` between registries, the differing files as one gzipped layer made before",
  prepare(pair, prepared) {
    if (existsSync(`${prepared}/new/oci-layout`)) return;
    const tars = makeTars(pair, prepared);
    prepare(`mkdir -p ${prepared}/held`);
    for (const tar of tars) prepare(`cp ${tar} ${prepared}/held/`);
    const held = tars.slice(0, pair.old === undefined ? 0 : 1);
    makeLayout(
      `${prepared}/old`,
      held.map((tar) => tar.replace(prepared, `${prepared}/held`)),
    );
    makeLayout(`${prepared}/new`, tars);
    prepare(`rm -rf ${prepared}/held`);
  },
  async serve({ link, pair, prepared, target }) {
    await upload(`${prepared}/sender`, { new: `${prepared}/new` });
    if (pair.old !== undefined) await upload(`${target}/registry`, { old: `${prepared}/old` });
    registry(link, "sender", `${prepared}/sender`);
    registry(link, "receiver", `${target}/registry`);
    await link.listening("sender", PORT);
    await link.listening("receiver", PORT);
  },
  async fetch({ link, target }) {
    const from = `docker://${ADDRESSES.sender}:${PORT}/image:new`;
    const to = `docker://127.0.0.1:${PORT}/image:new`;
    const options = "-q --src-tls-verify=false --dest-tls-verify=false";
    const sync = `find ${target}/registry -type f -mmin -60 | xargs sync`;
    await run(link, "receiver", `skopeo copy ${options} ${from} ${to}; ${sync}`);
    return {};
  },
};
