import { TesseraError, endOf, type ByteRange } from "#core";
import type { BlockDevice } from "./contract.ts";

export type DeviceOperation = "read" | "write" | "zero" | "allocated" | "flush";

/** When a {@link faultyDevice} fails; with neither `nth` nor `range`, every such operation does. */
export interface DeviceFault {
  readonly operation: DeviceOperation;
  /** Only the nth operation of this kind, counted from 1 over the device's life. */
  readonly nth?: number;
  /** Only operations that touch this range. */
  readonly range?: ByteRange;
  /** Thrown instead of `block.fault-injected`. */
  readonly error?: Error;
}

function overlaps(one: ByteRange, other: ByteRange): boolean {
  return one.offset < endOf(other) && other.offset < endOf(one);
}

/**
 * Fails as `faults` say and otherwise does as `inner` does; a failed operation does not reach
 * `inner`. For tests of what stands on a disk.
 *
 * @throws `block.fault-injected` (environment) or the fault's own error
 */
export function faultyDevice(inner: BlockDevice, faults: readonly DeviceFault[]): BlockDevice {
  const counts = new Map<DeviceOperation, number>();
  const whole = { offset: 0, length: inner.sizeBytes };
  const pass = (operation: DeviceOperation, range: ByteRange): void => {
    const count = (counts.get(operation) ?? 0) + 1;
    counts.set(operation, count);
    const fault = faults.find(
      (fault) =>
        fault.operation === operation &&
        (fault.nth === undefined || fault.nth === count) &&
        (fault.range === undefined || overlaps(fault.range, range)),
    );
    if (fault === undefined) return;
    const message = `${operation} number ${count} fails on purpose`;
    throw fault.error ?? new TesseraError("environment", "block.fault-injected", message);
  };
  return {
    sizeBytes: inner.sizeBytes,
    async read(target, offset) {
      pass("read", { offset, length: target.length });
      await inner.read(target, offset);
    },
    async write(source, offset) {
      pass("write", { offset, length: source.length });
      await inner.write(source, offset);
    },
    async zero(range) {
      pass("zero", range);
      await inner.zero(range);
    },
    async allocated() {
      pass("allocated", whole);
      return await inner.allocated();
    },
    async flush() {
      pass("flush", whole);
      await inner.flush();
    },
    close: () => inner.close(),
  };
}
