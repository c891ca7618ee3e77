/** The outside world as contracts: time, randomness, log, files, processes. */

/** Monotonic and wall-clock time. Every wait in Tessera goes through it. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  now(): number;
  /** Milliseconds on a monotonic scale without a fixed origin. */
  monotonic(): number;
  /** Resolves after `milliseconds`; rejects with the signal's reason when aborted. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
  /** Calls back once after `milliseconds` unless the returned function is called before. */
  after(milliseconds: number, callback: () => void): () => void;
}

/** A cryptographically strong source of randomness. */
export interface Random {
  bytes(length: number): Uint8Array;
  /** A version 4 UUID (RFC 9562). */
  uuid(): string;
  /** A fraction from 0 up to but not including 1, for jitter. */
  fraction(): number;
}

export type LogLevel = "debug" | "info" | "warn" | "error";

/** Structured log; `fields` never hold secrets. */
export interface Log {
  log(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** The same log with fields added to every entry. */
  with(fields: Readonly<Record<string, unknown>>): Log;
}

export interface FileStatus {
  readonly kind: "file" | "directory" | "link" | "other";
  readonly sizeBytes: number;
  /** Bytes that occupy the disk: less than `sizeBytes` for a sparse file. */
  readonly allocatedBytes: number;
  readonly mode: number;
  readonly modified_ms: number;
  readonly changed_ms: number;
  readonly inode: number;
}

/** How to open: `read`; `write` an existing file; `create` or truncate; `exclusive` create. */
export type OpenMode = "read" | "write" | "create" | "exclusive";

export interface OpenFile {
  /** Reads into `target`; returns the bytes read, fewer only at the end of the file. */
  read(target: Uint8Array, position: number): Promise<number>;
  /**
   * The same at once, holding up everything else meanwhile: for short reads of what is in memory
   * in all likelihood, where a promise costs more than the read.
   */
  readonly readSync?: (target: Uint8Array, position: number) => number;
  /** Writes all of `source`. */
  write(source: Uint8Array, position: number): Promise<void>;
  truncate(sizeBytes: number): Promise<void>;
  /** Returns when content and size are durable (`fsync`). */
  sync(): Promise<void>;
  status(): Promise<FileStatus>;
  close(): Promise<void>;
}

/**
 * The file system. Errors are TesseraErrors: `system.not-found`, `system.exists`,
 * `system.disk-full`, `system.permission`, `system.io`, with the path as subject.
 */
export interface FileSystem {
  open(path: string, mode: OpenMode, permissions?: number): Promise<OpenFile>;
  /** The whole file. @throws `system.too-large` above `bytesMax`. */
  readFile(path: string, bytesMax: number): Promise<Uint8Array>;
  /** Writes beside, syncs, renames, syncs the directory: a reader sees the old or the new file. */
  writeFileAtomic(path: string, content: Uint8Array | string, permissions?: number): Promise<void>;
  /** Atomic within one file system; syncs the directories concerned. */
  rename(from: string, to: string): Promise<void>;
  /** As `rename`, for what may be lost: nothing is synced, so a power cut may undo it. */
  renameUnsynced(from: string, to: string): Promise<void>;
  /** A hard link. */
  link(existing: string, path: string): Promise<void>;
  /** A symbolic link to `target`, durable when this returns. @throws `system.exists` */
  symlink(target: string, path: string): Promise<void>;
  /** Where a symbolic link leads to; undefined when there is none. */
  readLink(path: string): Promise<string | undefined>;
  /** Removes a file or link; a missing one is no error. */
  remove(path: string): Promise<void>;
  /** Removes a directory and all below; a missing one is no error. */
  removeTree(path: string): Promise<void>;
  /** Creates the directory and its parents. */
  makeDirectory(path: string, permissions?: number): Promise<void>;
  /** Names in a directory, sorted; empty when the directory is missing. */
  list(path: string): Promise<string[]>;
  /** Undefined when nothing is there. Does not follow a final symbolic link. */
  status(path: string): Promise<FileStatus | undefined>;
  /** Bytes free for an unprivileged writer on the file system of `path`. */
  freeBytes(path: string): Promise<number>;
}

export interface CommandOptions {
  readonly input?: Uint8Array | string;
  /** Standard output goes to this file instead of memory. */
  readonly outputFile?: string;
  readonly timeout_ms?: number;
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  readonly signal?: AbortSignal;
  /** Default 16 MiB; more output is an error. */
  readonly outputBytesMax?: number;
}

export interface CommandResult {
  readonly exitCode: number;
  readonly output: Uint8Array;
  /** The last 64 KiB of standard error, as text. */
  readonly errorText: string;
}

/** A process that was started and is identified against reuse of its pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of `/proc/PID/stat`: clock ticks after boot. */
  readonly startTicks: number;
  /** `/proc/sys/kernel/random/boot_id`, so that a reboot is told apart. */
  readonly bootId: string;
}

export interface StartOptions {
  /** Standard output and error are appended to this file. */
  readonly logFile: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  /** `own`: it is sent SIGTERM when we end, however we end; `free`: it survives us. */
  readonly life: "own" | "free";
  /** Drop to this user when we run as root. */
  readonly user?: { readonly uid: number; readonly gid: number };
}

export interface StartedProcess {
  readonly identity: ProcessIdentity;
  /** Resolves with the exit code, or minus the signal number. Only for our own children. */
  readonly exit: Promise<number>;
}

export interface Processes {
  /**
   * Runs a program to its end. A non-zero exit is a result, not an error.
   *
   * @throws `system.program-missing`, `system.timeout`, `system.output-too-large`
   */
  run(program: string, args: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  start(program: string, args: readonly string[], options: StartOptions): Promise<StartedProcess>;
  /** True while exactly this process lives (a zombie does not). */
  alive(identity: ProcessIdentity): boolean;
  /** The identity of a live pid. */
  identify(pid: number): ProcessIdentity | undefined;
  /** Sends the signal if exactly this process lives. */
  kill(
    identity: ProcessIdentity,
    signal: "SIGHUP" | "SIGTERM" | "SIGKILL" | "SIGSTOP" | "SIGCONT",
  ): void;
}

/** What a room needs of the outside world, handed down from `main`. */
export interface World {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly files: FileSystem;
  readonly processes: Processes;
}
