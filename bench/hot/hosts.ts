/** What the grid asks of a system that moves guests: libvirt or ours. */
import type { Path } from "./path.ts";

export interface Moved {
  readonly ended: boolean;
  /** From the request until the guest runs at the other side and all that it needs is there. */
  readonly seconds: number;
  /** As the hypervisor or the receipt says; absent where it did not end. */
  readonly downtime_ms?: number;
  /** Further figures, by name with unit. */
  readonly more?: Readonly<Record<string, number>>;
  /** Why it did not end. */
  readonly words?: string;
}

/** One guest between two hosts. */
export interface Hosts {
  readonly consoles: readonly string[];
  /** Takes the machine to the other side; what has not ended within the limit is cancelled, and it stays. */
  move(limit_s: number): Promise<Moved>;
  close(): Promise<void>;
}

export interface HostsRequest {
  readonly path: Path;
  /** Empty at first, and removed afterwards. */
  readonly directory: string;
  /** For what the next guest needs, too. */
  readonly cache: string;
}
