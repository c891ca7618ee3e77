import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Digest, World } from "#core";
import type { DescribedBytes } from "./described.ts";
import type { Locks } from "./locks.ts";

/** Longest wait for another process's short write; this process does nothing else meanwhile. */
const BUSY_MS = 5000;
/** Longest wait for another process that makes the database anew. */
const LOCK_WAIT_MS = 60_000;
const VERSION = 1;
const ATTEMPTS_MAX = 3;
/** A database of one generation, and the files that SQLite has beside it. */
const NAME = /^([1-9][0-9]{0,14})\.sqlite(?:-wal|-shm|-journal)?$/;

// In WAL mode a commit that is not synced is whole or absent after a crash (SQLite, PRAGMA
// synchronous); absent costs only the reading of an image.
const SETTINGS = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA journal_size_limit = 16777216;
`;
const SCHEMA = `
  BEGIN IMMEDIATE;
  CREATE TABLE IF NOT EXISTS component (
    id TEXT PRIMARY KEY, recipe BLOB NOT NULL, sketches BLOB NOT NULL, digest BLOB NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS facts (
    id TEXT PRIMARY KEY, prefixes BLOB NOT NULL, facts BLOB NOT NULL
  ) STRICT;
  PRAGMA user_version = ${VERSION};
  COMMIT;
`;

/** Primary result codes of SQLite that say what is wrong with the file rather than the call. */
const DAMAGE: ReadonlySet<number> = new Set([
  1, // SQLITE_ERROR: a table or a column is not there
  10, // SQLITE_IOERR: the file is shorter than it says
  11, // SQLITE_CORRUPT
  14, // SQLITE_CANTOPEN: something else has its name
  15, // SQLITE_PROTOCOL: the index of the journal makes no sense
  26, // SQLITE_NOTADB
]);

interface Opened {
  readonly database: DatabaseSync;
  readonly generation: number;
}

/**
 * The file index on disk: rows by component id. A database that is damaged is left for one with
 * the next number, since every row can be made again from an image. It is never made again under
 * its own name: SQLite finds a database's journal by name, and another process may still have the
 * old one open.
 */
export class FileDatabase {
  readonly #world: World;
  readonly #directory: string;
  readonly #locks: Locks;
  #opened: Opened | undefined;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(world: World, directory: string, locks: Locks) {
    this.#world = world;
    this.#directory = directory;
    this.#locks = locks;
  }

  ids(): Promise<Digest[]> {
    return this.#use((database) => {
      const rows = database.prepare("SELECT id FROM facts").all();
      return rows.map((row) => row["id"] as Digest);
    });
  }

  facts(id: Digest): Promise<Uint8Array | undefined> {
    return this.#use((database) => {
      const row = database.prepare("SELECT facts FROM facts WHERE id = ?").get(id);
      return row?.["facts"] as Uint8Array | undefined;
    });
  }

  /** What `locate` needs of every component; it lies before the facts, which are larger. */
  prefixes(id: Digest): Promise<Uint8Array | undefined> {
    return this.#use((database) => {
      const row = database.prepare("SELECT prefixes FROM facts WHERE id = ?").get(id);
      return row?.["prefixes"] as Uint8Array | undefined;
    });
  }

  get(id: Digest): Promise<DescribedBytes | undefined> {
    return this.#use((database) => {
      const row = database
        .prepare(
          'SELECT recipe, facts, sketches, digest AS "check" FROM component JOIN facts USING (id) WHERE id = ?',
        )
        .get(id);
      return row as unknown as DescribedBytes | undefined;
    });
  }

  put(id: Digest, bytes: DescribedBytes, prefixes: Uint8Array): Promise<void> {
    const { recipe, facts, sketches, check } = bytes;
    return this.#use((database) =>
      inTransaction(database, () => {
        database
          .prepare("INSERT OR REPLACE INTO component VALUES (?, ?, ?, ?)")
          .run(id, recipe, sketches, check);
        database.prepare("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)").run(id, prefixes, facts);
      }),
    );
  }

  delete(ids: readonly Digest[]): Promise<void> {
    return this.#use((database) =>
      inTransaction(database, () => {
        for (const table of ["component", "facts"]) {
          const statement = database.prepare(`DELETE FROM ${table} WHERE id = ?`);
          for (const id of ids) statement.run(id);
        }
      }),
    );
  }

  /** One use after the other: while the database is made anew, nobody has it. */
  #use<T>(work: (database: DatabaseSync) => T): Promise<T> {
    const result = this.#tail.then(() => this.#attempt(work, 1));
    this.#tail = result.catch(() => undefined);
    return result;
  }

  async #attempt<T>(work: (database: DatabaseSync) => T, attempt: number): Promise<T> {
    try {
      this.#opened ??= await this.#open();
      return work(this.#opened.database);
    } catch (error) {
      const code = primaryCode(error);
      if (code === undefined || !DAMAGE.has(code) || attempt === ATTEMPTS_MAX) throw error;
      await this.#abandon(error);
      return this.#attempt(work, attempt + 1);
    }
  }

  #open(): Promise<Opened> {
    return this.#exclusively(async () => {
      const generation = Math.max(...(await this.#generations()), 1);
      await this.#removeBelow(generation);
      return { database: openDatabase(this.#pathOf(generation)), generation };
    });
  }

  /** Makes the next database, unless another process has. */
  async #abandon(error: unknown): Promise<void> {
    const failed = this.#opened?.generation;
    this.#close();
    await this.#exclusively(async () => {
      const newest = Math.max(...(await this.#generations()), 1);
      if (failed !== undefined && newest > failed) return;
      const cause = error instanceof Error ? error.message : String(error);
      this.#world.log.log("warn", "the file index is damaged and is made anew", { cause });
      openDatabase(this.#pathOf(newest + 1)).close();
      await this.#removeBelow(newest + 1);
    });
  }

  #close(): void {
    try {
      this.#opened?.database.close();
    } catch (error) {
      // The journal of a damaged database cannot be written back; nobody needs it.
      if (primaryCode(error) === undefined) throw error;
    } finally {
      this.#opened = undefined;
    }
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const lock = await this.#locks.acquire("files", { timeout_ms: LOCK_WAIT_MS });
    try {
      return await work();
    } finally {
      await lock.release();
    }
  }

  #pathOf(generation: number): string {
    return join(this.#directory, `${generation}.sqlite`);
  }

  async #generations(): Promise<number[]> {
    const names = await this.#world.files.list(this.#directory);
    return names.flatMap((name) => NAME.exec(name)?.[1] ?? []).map(Number);
  }

  async #removeBelow(generation: number): Promise<void> {
    for (const name of await this.#world.files.list(this.#directory)) {
      const found = Number(NAME.exec(name)?.[1] ?? Infinity);
      if (found < generation) await this.#world.files.removeTree(join(this.#directory, name));
    }
  }
}

function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: BUSY_MS });
  try {
    database.exec(SETTINGS);
    const version = database.prepare("PRAGMA user_version").get()?.["user_version"];
    if (version === 0) database.exec(SCHEMA);
    else if (version !== VERSION) throw new OtherVersion(path);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** A database of another version of Tessera is as good as a damaged one. */
class OtherVersion extends Error {
  readonly errcode = 26;
}

/** Undefined for what is no error of SQLite. */
export function primaryCode(error: unknown): number | undefined {
  const code = error instanceof Error ? (error as { errcode?: unknown }).errcode : undefined;
  return typeof code === "number" ? code & 0xff : undefined;
}

function inTransaction(database: DatabaseSync, work: () => void): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    work();
    database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}
