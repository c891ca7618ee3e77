import { TesseraError } from "#core";

/** The image, or a file system in it, contradicts itself or ends too early. */
export function damaged(what: string, problem: string, cause?: unknown): TesseraError {
  return new TesseraError("corrupt", "import.image-damaged", `${what}: ${problem}`, {
    subject: what,
    remedy: "check the image with the tools of its format, or copy it again from where it came",
    cause,
  });
}

/** What is sound but cannot be read here. */
export function unsupported(what: string, feature: string, remedy: string): TesseraError {
  const message = `${what}: ${feature} is not supported`;
  return new TesseraError("misuse", "import.unsupported", message, { subject: what, remedy });
}

/** More than is taken from any one image. */
export function tooLarge(what: string, problem: string): TesseraError {
  return new TesseraError("misuse", "import.too-large", `${what}: ${problem}`, {
    subject: what,
    remedy: "take the machine apart by hand, or leave out what is so large",
  });
}
