import { TesseraError } from "#core";
import type { NbdAddress } from "./contract.ts";

/** What unix(7) has room for. */
const PATH_BYTES_MAX = 107;

export function addressText(address: NbdAddress): string {
  return "path" in address ? address.path : `${address.host}:${address.port}`;
}

/** As in `nbd+unix:///NAME?socket=PATH` (NetworkBlockDevice/nbd, doc/uri.md). */
export function uriOf(address: NbdAddress, exportName: string): string {
  const name = encodeURIComponent(exportName);
  if ("path" in address) return `nbd+unix:///${name}?socket=${encodeURIComponent(address.path)}`;
  const { host, port } = address;
  return `nbd://${host.includes(":") ? `[${host}]` : host}:${port}/${name}`;
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|::1)$/;

function checkLoopback(host: string): void {
  if (LOOPBACK.test(host)) return;
  throw new TesseraError("misuse", "nbd.address-public", `${host} is not a loopback address`, {
    subject: host,
    remedy: "listen on a unix socket or on 127.0.0.1: NBD has no TLS here",
  });
}

/** Where a server may listen. @throws `nbd.socket-path-too-long`, `nbd.address-public` (misuse) */
export function checkAddress(address: NbdAddress): void {
  if ("host" in address) return checkLoopback(address.host);
  if (Buffer.byteLength(address.path) <= PATH_BYTES_MAX) return;
  const { path } = address;
  throw new TesseraError("misuse", "nbd.socket-path-too-long", `${path} is too long`, {
    subject: path,
    remedy: `choose a path of at most ${PATH_BYTES_MAX} bytes`,
  });
}
