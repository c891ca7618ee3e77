/**
 * Program: `disk.ts` makes the data disk of a machine before and after a day of work, 6 GiB of ext4
 * each, as `build/bench/disk/{before,after}/image`: a database of 16 KiB pages of which some rows
 * change, logs that grow and are rotated, media of which some come and some go. What is in the files
 * follows from fixed seeds. `before` is made by `mke2fs -d`; the edits are done through a loop mount,
 * as a running system would, and need root.
 */
import { spawnSync } from "node:child_process";
import { createCipheriv } from "node:crypto";
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join, resolve } from "node:path";

const MIB = 2 ** 20;
const DISK_BYTES = 6 * 1024 * MIB;
const PAGE_BYTES = 16_384;
const DATABASE_PAGES = (768 * MIB) / PAGE_BYTES;
const EDITED_PAGES = 4000;
const ROW_BYTES = 128;
const LOG_BYTES = 64 * MIB;
const APPENDED_BYTES = 24 * MIB;
const MEDIA_BYTES = 4 * MIB;
const MEDIA = 160;
const MEDIA_GONE = 8;
const MEDIA_NEW = 4;

const ROOT = resolve(import.meta.dirname, "../../build/bench/disk");

/** Marsaglia's xorshift: equal seeds give equal disks. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

function run(program: string, ...args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program}: ${error?.message ?? stderr}`);
}

const FIRST = ["anna", "bruno", "carla", "dario", "elena", "fabio", "giulia", "luca", "marta"];
const LAST = ["rossi", "russo", "ferrari", "esposito", "bianchi", "romano", "colombo", "ricci"];
const CITY = ["messina", "palermo", "catania", "torino", "milano", "bari", "genova", "napoli"];

/** A record as a shop would have: names from lists, numbers, and a token that does not compress. */
function row(random: (limit: number) => number, key: number): Buffer {
  const pick = (words: readonly string[]): string => words[random(words.length)] ?? "";
  const token = Array.from({ length: 4 }, () => random(2 ** 32).toString(16)).join("");
  const name = `${pick(FIRST)}.${pick(LAST)}${random(1000)}`;
  const text = `${key},${name}@example.net,${pick(CITY)},${random(100_000)},${token}`;
  return Buffer.from(text.slice(0, ROW_BYTES).padEnd(ROW_BYTES, "\0"));
}

/** A header with the log sequence number, rows from its end, a checksum at the page's end. */
function page(number: number): Buffer {
  const random = generator(number + 1);
  const bytes = Buffer.alloc(PAGE_BYTES);
  stamp(bytes, number, number);
  const rows = 80 + random(40);
  for (let index = 0; index < rows; index += 1) {
    row(random, number * 128 + index).copy(bytes, ROW_BYTES * (1 + index));
  }
  return bytes;
}

function stamp(bytes: Buffer, number: number, sequence: number): void {
  bytes.writeUInt32BE(number, 4);
  bytes.writeUInt32BE(sequence, 20);
  const random = generator(number * 31 + sequence + 1);
  bytes.writeUInt32BE(random(2 ** 32), 0);
  bytes.writeUInt32BE(sequence, PAGE_BYTES - 4);
  bytes.writeUInt32BE(bytes.readUInt32BE(0), PAGE_BYTES - 8);
}

function writeDatabase(path: string): void {
  const file = openSync(path, "w");
  for (let number = 0; number < DATABASE_PAGES; number += 1) writeSync(file, page(number));
  closeSync(file);
}

/** In each of some pages at random one to three rows change, and header and trailer with them. */
function editDatabase(path: string): void {
  const random = generator(77);
  const file = openSync(path, "r+");
  const bytes = Buffer.alloc(PAGE_BYTES);
  for (let edit = 0; edit < EDITED_PAGES; edit += 1) {
    const number = random(DATABASE_PAGES);
    readSync(file, bytes, 0, PAGE_BYTES, number * PAGE_BYTES);
    for (let rows = 1 + random(3); rows > 0; rows -= 1) {
      const index = random(80);
      row(random, number * 128 + index).copy(bytes, ROW_BYTES * (1 + index));
    }
    stamp(bytes, number, DATABASE_PAGES + edit);
    writeSync(file, bytes, 0, PAGE_BYTES, number * PAGE_BYTES);
  }
  fsyncSync(file);
  closeSync(file);
}

/** Lines of a web server's access log. */
function logLines(seed: number, sizeBytes: number): string {
  const random = generator(seed);
  const lines: string[] = [];
  let length = 0;
  for (let second = seed * 100_000; length < sizeBytes; second += random(3)) {
    const address = `10.${random(8)}.${random(256)}.${random(256)}`;
    const time = new Date(1_790_000_000_000 + second * 1000).toISOString();
    const path = `/${CITY[random(CITY.length)]}/${random(5000)}?q=${random(2 ** 24).toString(36)}`;
    const line = `${address} - - [${time}] "GET ${path} HTTP/1.1" 200 ${random(50_000)} "-" "Mozilla/5.0"\n`;
    lines.push(line);
    length += line.length;
  }
  return lines.join("");
}

/** What cannot be compressed: AES in counter mode of zeroes. */
function media(seed: number): Buffer {
  const cipher = createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16, seed >> 8));
  return cipher.update(Buffer.alloc(MEDIA_BYTES));
}

function fill(root: string): void {
  for (const name of ["mysql", "log", "media"]) mkdirSync(join(root, name), { recursive: true });
  writeDatabase(join(root, "mysql", "shop.ibd"));
  writeFileSync(join(root, "log", "access.log"), logLines(1, LOG_BYTES));
  writeFileSync(join(root, "log", "access.log.1"), logLines(2, LOG_BYTES));
  for (let index = 0; index < MEDIA; index += 1) {
    writeFileSync(join(root, "media", `${index}.jpg`), media(index));
  }
}

function edit(root: string): void {
  editDatabase(join(root, "mysql", "shop.ibd"));
  const log = (name: string): string => join(root, "log", name);
  run("gzip", log("access.log.1"));
  renameSync(log("access.log.1.gz"), log("access.log.2.gz"));
  renameSync(log("access.log"), log("access.log.1"));
  appendFileSync(log("access.log.1"), logLines(3, APPENDED_BYTES / 2));
  writeFileSync(log("access.log"), logLines(4, APPENDED_BYTES / 2));
  for (let index = 0; index < MEDIA_GONE; index += 1) {
    rmSync(join(root, "media", `${index * 7}.jpg`));
  }
  for (let index = 0; index < MEDIA_NEW; index += 1) {
    writeFileSync(join(root, "media", `${MEDIA + index}.jpg`), media(MEDIA + index));
  }
}

function makeBefore(directory: string): void {
  const tree = join(directory, "tree");
  const path = join(directory, "image");
  fill(tree);
  writeFileSync(path, "");
  truncateSync(path, DISK_BYTES);
  const seeds = ["-U", "6b0d0a9e-56a2-4b5c-8a70-3c2f7f0c5a01", "-E"];
  const options = "hash_seed=6b0d0a9e-56a2-4b5c-8a70-3c2f7f0c5a02,lazy_itable_init=1";
  run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", ...seeds, options, "-d", tree, path);
  rmSync(tree, { recursive: true });
}

function makeAfter(before: string, directory: string): void {
  const path = join(directory, "image");
  const mounted = join(directory, "mounted");
  mkdirSync(mounted, { recursive: true });
  run("cp", "--sparse=always", before, path);
  run("mount", "-o", "loop,discard", path, mounted);
  try {
    edit(mounted);
  } finally {
    run("umount", mounted);
  }
}

const done = join(ROOT, "after", "done");
if (!existsSync(done)) {
  rmSync(ROOT, { recursive: true, force: true });
  const [before, after] = [join(ROOT, "before"), join(ROOT, "after")];
  makeBefore(before);
  makeAfter(join(before, "image"), after);
  writeFileSync(done, "");
}
