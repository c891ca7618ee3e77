import { DatabaseSync } from "node:sqlite";
import { TesseraError } from "#core";
import { parseRecord, type MigrationRecord } from "./migrations/record.ts";

export interface JournalEntry {
  readonly seq: number;
  readonly at_ms: number;
  readonly phase: string;
  readonly event: string;
  readonly detail?: string;
}

/**
 * What this side knows of its migrations, durably: `save` returns when the record and its entry
 * are on the disk, both or neither. Effects run after `save`, never before.
 */
export interface Journal {
  /** @throws `agent.journal-unusable`; `agent.record-invalid` (bug): nothing was written */
  save(record: MigrationRecord, entry: { event: string; detail?: string; at_ms: number }): void;
  load(id: string): MigrationRecord | undefined;
  /** Newest first. */
  list(): MigrationRecord[];
  entries(id: string): JournalEntry[];
  close(): void;
}

// `synchronous = FULL` syncs the write-ahead log at every commit (SQLite, PRAGMA synchronous). The
// lock is held as long as the journal is open: a second agent of one directory cannot have it.
const SCHEMA = `
  PRAGMA locking_mode = EXCLUSIVE;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS migration (
    id TEXT PRIMARY KEY, started_ms REAL NOT NULL, record TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS entry (
    migration TEXT NOT NULL, seq INTEGER NOT NULL, at_ms REAL NOT NULL,
    phase TEXT NOT NULL, event TEXT NOT NULL, detail TEXT,
    PRIMARY KEY (migration, seq)
  ) STRICT;
`;

/** SQLite's code for a lock that somebody else holds. */
const BUSY = 5;

function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path);
    database.exec(SCHEMA);
    return database;
  } catch (cause) {
    database?.close();
    if ((cause as { errcode?: unknown }).errcode === BUSY) throw inUse(path, cause);
    throw unusable(path, cause);
  }
}

function inUse(path: string, cause: unknown): TesseraError {
  const message = `another agent uses ${path}`;
  return new TesseraError("misuse", "agent.already-running", message, {
    subject: path,
    remedy: "stop it by `tessera agent stop`, or use another state directory",
    cause,
  });
}

function unusable(path: string, cause: unknown): TesseraError {
  return new TesseraError("environment", "agent.journal-unusable", `cannot use ${path}`, {
    subject: path,
    remedy: "check the file's owner and the disk; restore it rather than delete it",
    cause,
  });
}

/** What could not be read again must not be written: it would stop every later start. */
function encode(record: MigrationRecord): string {
  const text = JSON.stringify(record);
  try {
    parseRecord(text);
    return text;
  } catch (cause) {
    const message = `the record of migration ${record.id} is not one`;
    throw new TesseraError("bug", "agent.record-invalid", message, { subject: record.id, cause });
  }
}

function decode(path: string, text: unknown): MigrationRecord {
  try {
    return parseRecord(String(text));
  } catch (cause) {
    throw new TesseraError("corrupt", "agent.journal-corrupt", `${path} holds a bad record`, {
      subject: path,
      remedy: "restore the journal, or read its newer format with a newer Tessera",
      cause,
    });
  }
}

function entryOf(row: Record<string, unknown>): JournalEntry {
  const { seq, at_ms, phase, event, detail } = row as unknown as JournalEntry & {
    detail: string | null;
  };
  return { seq, at_ms, phase, event, ...(detail === null ? {} : { detail }) };
}

/** @throws `agent.journal-unusable`, `agent.journal-corrupt`, `agent.already-running` */
export function openJournal(path: string): Journal {
  const database = openDatabase(path);
  const put = database.prepare(
    "INSERT INTO migration VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
  );
  const append = database.prepare(
    `INSERT INTO entry SELECT ?, coalesce(max(seq), 0) + 1, ?, ?, ?, ? FROM entry WHERE migration = ?`,
  );
  const get = database.prepare("SELECT record FROM migration WHERE id = ?");
  const all = database.prepare("SELECT record FROM migration ORDER BY started_ms DESC, id");
  const read = database.prepare(
    "SELECT seq, at_ms, phase, event, detail FROM entry WHERE migration = ? ORDER BY seq",
  );
  return {
    save: (record, { event, detail, at_ms }) => {
      const text = encode(record);
      try {
        database.exec("BEGIN IMMEDIATE");
        put.run(record.id, record.started_ms, text);
        append.run(record.id, at_ms, record.phase, event, detail ?? null, record.id);
        database.exec("COMMIT");
      } catch (cause) {
        if (database.isOpen && database.isTransaction) database.exec("ROLLBACK");
        throw unusable(path, cause);
      }
    },
    load: (id) => {
      const row = get.get(id);
      return row === undefined ? undefined : decode(path, row["record"]);
    },
    list: () => all.all().map((row) => decode(path, row["record"])),
    entries: (id) => read.all(id).map(entryOf),
    close: () => database.close(),
  };
}
