import { TesseraError } from "./errors.ts";

const BINARY: Readonly<Record<string, number>> = {
  "": 1,
  K: 2 ** 10,
  M: 2 ** 20,
  G: 2 ** 30,
  T: 2 ** 40,
};
const DECIMAL: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/**
 * Bytes of a size such as `512M`, `1G`, `4096`, `1.5GiB`; suffixes are powers of 1024 as in QEMU.
 *
 * @throws `core.size-invalid` (misuse)
 */
export function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const unit = BINARY[(match?.[2] ?? "").toUpperCase()];
  const bytes = Math.round(Number(match?.[1]) * (unit ?? Number.NaN));
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new TesseraError("misuse", "core.size-invalid", `"${text}" is not a size`, {
    subject: text,
    remedy: "write a number with K, M, G or T, for instance 512M",
  });
}

/**
 * Bits per second of a rate such as `50Mbit/s`, `120kbit`, `1Gbit/s`; suffixes are powers of 1000.
 *
 * @throws `core.rate-invalid` (misuse)
 */
export function parseRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kMG]?)bit(?:\/s|ps)?$/.exec(text.trim());
  const unit = DECIMAL[match?.[2] ?? ""];
  const rate = Math.round(Number(match?.[1]) * (unit ?? Number.NaN));
  if (Number.isSafeInteger(rate) && rate > 0) return rate;
  throw new TesseraError("misuse", "core.rate-invalid", `"${text}" is not a rate`, {
    subject: text,
    remedy: "write bits per second, for instance 50Mbit/s or 120kbit/s",
  });
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  let rest = value;
  while (rest >= step && index < units.length - 1) {
    rest /= step;
    index += 1;
  }
  const digits = index === 0 || rest >= 100 ? 0 : 1;
  return `${rest.toFixed(digits)} ${units[index] ?? ""}`;
}

/** `12.3 MB`, in powers of 1000, as links and disks are sold. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1000, ["B", "kB", "MB", "GB", "TB"]);
}

/** `50.0 Mbit/s`. */
export function formatRate(bitsPerSecond: number): string {
  return scaled(bitsPerSecond, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
}

/** `850 ms`, `12.3 s`, `4 min 05 s`. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}
