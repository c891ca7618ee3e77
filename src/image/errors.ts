import { TesseraError } from "#core";

export function pathInvalid(path: string, reason: string): TesseraError {
  return new TesseraError("misuse", "image.path-invalid", `path "${path}" ${reason}`, {
    subject: path,
  });
}

export function entryInvalid(path: string, reason: string): TesseraError {
  return new TesseraError("misuse", "image.entry-invalid", `entry "${path}" ${reason}`, {
    subject: path,
  });
}

export function erofsInvalid(reason: string, cause?: unknown): TesseraError {
  const message = `the EROFS image is damaged: ${reason}`;
  return new TesseraError("corrupt", "image.erofs-invalid", message, { cause });
}

export function erofsUnsupported(reason: string): TesseraError {
  const message = `the EROFS image uses what is not supported: ${reason}`;
  return new TesseraError("misuse", "image.erofs-unsupported", message, {
    remedy: "make the image without compression, in blocks of 4 KiB",
  });
}

export function recipeInvalid(reason: string, cause?: unknown): TesseraError {
  return new TesseraError("corrupt", "image.recipe-invalid", `the recipe is not valid: ${reason}`, {
    cause,
  });
}

export function tarInvalid(reason: string, cause?: unknown): TesseraError {
  return new TesseraError("corrupt", "image.tar-invalid", `the tar is damaged: ${reason}`, {
    cause,
  });
}

export function tooLarge(reason: string): TesseraError {
  return new TesseraError("misuse", "image.too-large", reason);
}
