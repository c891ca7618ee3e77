/**
 * The house: every room, what it may import from other rooms, and which Node built-ins it may
 * use. This is the only copy; `tidy.test.ts` holds the code against it. To change who may call
 * whom, edit the row of the importing room here and say why in the commit.
 */
export interface Room {
  /** Rooms that may be imported, as `#name`. */
  readonly rooms: readonly string[];
  /** Node built-ins that may be imported, without `node:`. `"*"` means any. */
  readonly node: readonly string[];
}

export const ROOMS: Readonly<Record<string, Room>> = {
  core: { rooms: [], node: [] },
  system: { rooms: ["core"], node: ["*"] },
  block: { rooms: ["core"], node: ["crypto"] },
  nbd: { rooms: ["core", "block"], node: ["net"] },
  image: { rooms: ["core", "block"], node: ["crypto"] },
  delta: { rooms: ["core"], node: [] },
  repository: {
    rooms: ["core", "block", "image", "delta"],
    node: ["crypto", "path", "sqlite"],
  },
  registry: {
    rooms: ["core", "image", "repository"],
    node: ["crypto", "http", "https", "path", "tls"],
  },
  compose: { rooms: ["core", "block", "image", "repository"], node: ["crypto", "path"] },
  build: {
    rooms: ["core", "block", "image", "repository", "compose"],
    node: ["crypto", "path", "zlib", "stream"],
  },
  import: {
    rooms: ["core", "block", "nbd", "image", "repository", "compose", "build"],
    node: ["crypto", "path", "stream", "zlib"],
  },
  export: {
    rooms: ["core", "block", "image", "compose", "import"],
    node: ["crypto", "path", "zlib"],
  },
  hypervisor: { rooms: ["core", "block"], node: ["net", "path", "events"] },
  memory: { rooms: ["core", "delta", "hypervisor"], node: ["util", "zlib"] },
  xmpp: { rooms: ["core"], node: ["crypto", "net", "tls", "path", "events", "string_decoder"] },
  federation: { rooms: ["core", "xmpp"], node: ["crypto"] },
  transfer: {
    rooms: ["core", "block", "image", "delta", "repository"],
    node: ["crypto", "net", "tls", "zlib", "events", "perf_hooks", "worker_threads"],
  },
  userdata: {
    rooms: ["core", "block", "nbd", "delta", "repository", "transfer"],
    node: ["zlib"],
  },
  placement: { rooms: ["core"], node: [] },
  migration: { rooms: ["core"], node: [] },
  simulator: { rooms: ["core", "delta", "placement", "migration", "federation"], node: ["module"] },
  api: { rooms: ["core"], node: [] },
  agent: {
    rooms: [
      "core",
      "system",
      "block",
      "nbd",
      "image",
      "delta",
      "repository",
      "registry",
      "compose",
      "build",
      "import",
      "export",
      "hypervisor",
      "memory",
      "xmpp",
      "federation",
      "transfer",
      "userdata",
      "placement",
      "migration",
      "api",
    ],
    node: ["crypto", "path", "http", "net", "sqlite", "events", "stream", "util", "zlib", "os"],
  },
  cli: { rooms: ["core", "api", "simulator"], node: ["*"] },
};
