import type { StreamAddress } from "./stream.ts";

/** What the configuration of an embedded Prosody is made from. */
export interface ServerConfig {
  readonly domain: string;
  /** Bare JID of the agent's account. */
  readonly agent: string;
  /** Domain of the rooms component; absent hosts no rooms. */
  readonly roomsDomain?: string;
  readonly c2s: StreamAddress;
  readonly s2s: StreamAddress;
  /** Trust the system's authorities too, for peers that have public certificates. */
  readonly publicAuthorities: boolean;
}

/**
 * The server's own directory as it sees it. It may lie below directories that its user cannot
 * enter, but it is started inside it, and this link needs no walk from the root (proc(5)).
 */
export const OWN_DIRECTORY = "/proc/self/cwd";

type Lua = string | number | boolean | readonly Lua[] | { readonly [key: string]: Lua };

/** A Lua literal. Strings are escaped byte by byte, so no text can leave its quotes. */
function lua(value: Lua): string {
  if (typeof value === "string") return luaString(value);
  if (typeof value !== "object") return String(value);
  if (isList(value)) return `{ ${value.map(lua).join("; ")} }`;
  const members = Object.entries(value).map(([key, member]) => `[${lua(key)}] = ${lua(member)}`);
  return `{ ${members.join("; ")} }`;
}

function isList(value: object): value is readonly Lua[] {
  return Array.isArray(value);
}

function luaString(text: string): string {
  const bytes = [...Buffer.from(text, "utf8")];
  const safe = /[A-Za-z0-9 ._:@/+-]/;
  const escaped = bytes.map((byte) => {
    const character = String.fromCharCode(byte);
    return safe.test(character) ? character : `\\${String(byte).padStart(3, "0")}`;
  });
  return `"${escaped.join("")}"`;
}

function settings(values: Readonly<Record<string, Lua>>): string[] {
  return Object.entries(values).map(([name, value]) => `${name} = ${lua(value)}`);
}

const RATE = { rate: "10mb/s", burst: "5s" };

function globalSettings(config: ServerConfig): Record<string, Lua> {
  const { c2s, s2s, agent } = config;
  return {
    data_path: OWN_DIRECTORY,
    plugin_paths: [`${OWN_DIRECTORY}/modules`],
    tessera_directory: OWN_DIRECTORY,
    tessera_ports: [
      { host: c2s.host, port: c2s.port },
      { host: s2s.host, port: s2s.port },
    ],
    admins: [agent],
    modules_enabled: ["tessera", "tls", "saslauth", "disco", "ping", "s2s", "s2s_auth_certs"],
    modules_disabled: ["s2s_bidi", "offline", "dialback", "register", "http"],
    authentication: "internal_hashed",
    password_hash: "SHA-256",
    disable_sasl_mechanisms: ["PLAIN", "OAUTHBEARER"],
    allow_registration: false,
    c2s_ports: [],
    c2s_direct_tls_interfaces: [c2s.host],
    c2s_direct_tls_ports: [c2s.port],
    s2s_interfaces: [s2s.host],
    s2s_ports: [s2s.port],
    s2s_secure_auth: true,
    s2s_require_encryption: true,
    c2s_require_encryption: true,
    c2s_stanza_size_limit: 256 * 1024,
    s2s_stanza_size_limit: 512 * 1024,
    certificates: `${OWN_DIRECTORY}/certificates`,
    ssl: sslOf(config),
    network_settings: { nagle: false, read_timeout: 10 },
    limits: { c2s: RATE, s2sin: RATE, s2sout: RATE },
    log: [{ levels: { min: "info" }, to: "console", timestamps: true }],
  };
}

function sslOf(config: ServerConfig): Record<string, Lua> {
  return {
    certificate: `${OWN_DIRECTORY}/certificates/server.pem`,
    key: `${OWN_DIRECTORY}/certificates/server-key.pem`,
    cafile: `${OWN_DIRECTORY}/trust.pem`,
    capath: config.publicAuthorities ? "/etc/ssl/certs" : `${OWN_DIRECTORY}/no-authorities`,
  };
}

const ROOM_SETTINGS: Readonly<Record<string, Lua>> = {
  modules_enabled: ["tessera"],
  restrict_room_creation: true,
  max_history_messages: 0,
  muc_room_allow_public: false,
  muc_room_default_public: false,
  muc_room_default_persistent: true,
  muc_room_default_members_only: true,
  muc_room_default_public_jids: true,
  muc_room_default_allow_member_invites: false,
  muc_room_default_change_subject: false,
  muc_room_default_history_length: 0,
  muc_tombstones: false,
};

/** The whole configuration file. */
export function serverConfigText(config: ServerConfig): string {
  const { domain, roomsDomain } = config;
  const rooms =
    roomsDomain === undefined
      ? []
      : [`Component ${lua(roomsDomain)} "muc"`, ...settings(ROOM_SETTINGS)];
  const lines = [...settings(globalSettings(config)), `VirtualHost ${lua(domain)}`, ...rooms];
  return `${lines.join("\n")}\n`;
}
