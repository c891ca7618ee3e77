import { TesseraError, endOf, type ByteRange } from "#core";

/** @throws `block.out-of-range` (bug) unless the range lies within a device of `sizeBytes`. */
export function checkRange(range: ByteRange, sizeBytes: number): void {
  const whole = Number.isSafeInteger(range.offset) && Number.isSafeInteger(range.length);
  if (whole && range.offset >= 0 && range.length >= 0 && endOf(range) <= sizeBytes) return;
  const text = `${range.length} bytes at ${range.offset}`;
  throw new TesseraError(
    "bug",
    "block.out-of-range",
    `${text} exceed a disk of ${sizeBytes} bytes`,
  );
}

/** @throws `block.size-invalid` (misuse) unless a disk can have this size. */
export function checkSize(sizeBytes: number, subject?: string): void {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0) return;
  throw new TesseraError("misuse", "block.size-invalid", `a disk of ${sizeBytes} bytes cannot be`, {
    ...(subject === undefined ? {} : { subject }),
    remedy: "give a whole number of bytes above 0",
  });
}

export function closedError(subject?: string): TesseraError {
  const details = subject === undefined ? {} : { subject };
  return new TesseraError("bug", "block.closed", "the disk was closed before", details);
}

export function readOnlyError(subject: string): TesseraError {
  return new TesseraError("misuse", "block.read-only", `${subject} was opened read-only`, {
    subject,
  });
}
