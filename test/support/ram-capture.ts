/** Real machines under TCG whose migration streams are captured, for the coder of memory. */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join, resolve } from "node:path";
import { randomUUID } from "node:crypto";
import { compose, createUserData, parseAppliance, resolveAppliance, withUserData } from "#compose";
import { createQemu } from "#hypervisor";
import { realWorld } from "#system";
import { Qmp } from "../../src/hypervisor/qemu/qmp.ts";
import { testComponents } from "./components.ts";

const APPLIANCE = resolve(import.meta.dirname, "../../examples/appliances/web-database.yaml");
const READY_MS = 400_000;

const world = realWorld();

/** What the guest does. */
export interface Load {
  readonly name: string;
  /** A program of the shell that is done before the guest says that it is ready. */
  readonly before?: string;
  /** A program of the shell that goes on. */
  readonly meanwhile?: string;
  /** Of the capture; absent for as fast as it goes. */
  readonly bytesPerSecond?: number;
}

/**
 * 48 MiB of programs' bytes, shifted so that no page is one of a component's; in one page after the
 * other, as chance has it, 256 bytes are replaced by random ones.
 */
const dirtying = (bytesPerSecond: number): string =>
  `perl -e '$m=join("",map{local(@ARGV,$/)=$_;<>}grep{-f}glob("/usr/bin/* /usr/sbin/* /usr/lib/x86_64-linux-gnu/*.so*"));` +
  `$m=substr($m,101,48<<20);$n=length($m)>>12;open(R,"/dev/urandom");$k=0;` +
  `while(1){for(1..${Math.round(bytesPerSecond / 4096 / 20)}){$k=($k*69069+5)%$n;sysread(R,$r,256);` +
  `substr($m,4096*$k+256*int(rand(16)),256)=$r}select(undef,undef,undef,0.05)}'`;

export const LOADS: readonly Load[] = [
  { name: "idle" },
  {
    name: "warm page cache",
    before: "find /usr /etc /lib -xdev -type f -exec cat {} + >/dev/null",
  },
  { name: "dirtying 5 MB/s", meanwhile: dirtying(5e6), bytesPerSecond: 12_500_000 },
  { name: "dirtying 20 MB/s", meanwhile: dirtying(20e6), bytesPerSecond: 25_000_000 },
];

const unit = (kind: string, more: string) => `[Unit]
Description=Load
${more}
[Service]
Type=${kind}
ExecStart=/bin/sh /etc/load-${kind}
`;

function filesOf({ before, meanwhile }: Load) {
  const texts: Record<string, string> = {};
  const wants: string[] = [];
  const add = (kind: string, program: string, order: string): void => {
    texts[`/etc/load-${kind}`] = `${program}\n`;
    texts[`/etc/systemd/system/load-${kind}.service`] = unit(kind, order);
    wants.push(`[Unit]\nWants=load-${kind}.service\nAfter=load-${kind}.service\n`);
  };
  if (before !== undefined) add("oneshot", before, "After=multi-user.target");
  if (meanwhile !== undefined) add("simple", meanwhile, "");
  wants.forEach((text, index) => {
    texts[`/etc/systemd/system/tessera-ready.service.d/load-${index}.conf`] = text;
  });
  return Object.entries(texts).map(([path, text]) => ({ path, content: Buffer.from(text) }));
}

export interface Capture {
  /** Paths of the images of the machine's components. */
  readonly images: readonly string[];
  /** Of the stream. */
  readonly bytes: number;
}

async function specificationIn(directory: string, load: Load) {
  const { store } = await testComponents(["kernel-cloud", "debian-12", "nginx", "redis"]);
  const recipe = parseAppliance(await readFile(APPLIANCE, "utf8"), APPLIANCE);
  const appliance = await resolveAppliance(recipe, store);
  const uuid = randomUUID();
  const disks = await compose(world, store, appliance, join(directory, "composed"));
  const dataPath = join(directory, "data.raw");
  const sizeBytes = appliance.resources.dataBytes;
  await createUserData(world, dataPath, {
    uuid,
    hostname: "web-1",
    sizeBytes,
    files: filesOf(load),
  });
  await mkdir(join(directory, "machine"));
  return {
    uuid,
    name: "captured",
    cpus: 1,
    memoryBytes: 320 * 2 ** 20,
    disks: withUserData(disks, uuid),
    dataPath,
    ports: appliance.resources.ports,
    directory: join(directory, "machine"),
  };
}

/** Boots a machine with this load in `directory` and writes its migration stream to `path`. */
export async function captureRam(directory: string, load: Load, path: string): Promise<Capture> {
  const specification = await specificationIn(directory, load);
  const hypervisor = createQemu(world, { accelerator: "tcg" });
  const machine = await hypervisor.start(specification);
  try {
    await machine.ready(READY_MS);
    await machine.detach();
    const bytes = await migrateInto(specification.directory, load, path);
    const images = specification.disks.layers.map((layer) => layer.path);
    return { images: images.filter((image) => image.includes("/blobs/")), bytes };
  } finally {
    const left = await hypervisor.adopt(specification.directory);
    await left?.stop(0);
    await left?.detach();
  }
}

async function migrateInto(directory: string, load: Load, path: string): Promise<number> {
  const server = createServer();
  const socketPath = join(directory, "migration.sock");
  await once(server.listen(socketPath), "listening");
  const monitor = await Qmp.open(join(directory, "qmp.sock"), world.clock);
  try {
    const rate = load.bytesPerSecond ?? 10 ** 10;
    const limits = { "max-bandwidth": rate, "downtime-limit": 300 };
    await monitor.execute("migrate-set-parameters", limits);
    const connection = once(server, "connection");
    await monitor.execute("migrate", { uri: `unix:${socketPath}` });
    const [socket] = (await connection) as [Socket];
    const file = createWriteStream(path);
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      if (!file.write(chunk)) await once(file, "drain");
      if (file.bytesWritten > STREAM_BYTES_MAX) break;
    }
    file.end();
    await once(file, "close");
    return file.bytesWritten;
  } finally {
    await monitor.close();
    server.close();
  }
}

/** A guest that dirties faster than the link is captured so far. */
const STREAM_BYTES_MAX = 800e6;
