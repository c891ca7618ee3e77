/** An exported disk, started as a cloud without Tessera would: firmware and a disk, nothing else. */
import { spawn } from "node:child_process";
import { copyFile, readFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";

const MEMORY_MIB = 512;
const ASK_AGAIN_MS = 500;
const OVMF = "/usr/share/OVMF";

export interface ExportedGuest {
  readonly firmware: "bios" | "uefi";
  /** Of the disk, and how it is attached: as QEMU's `if=`. */
  readonly path: string;
  readonly format: string;
  readonly bus: "ide" | "virtio" | "nvme";
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => void server.close(resolve));
  return port;
}

async function firmwareArgs(firmware: ExportedGuest["firmware"], directory: string) {
  if (firmware === "bios") return ["-machine", "pc"];
  const variables = join(directory, "uefi-variables.fd");
  await copyFile(`${OVMF}/OVMF_VARS_4M.fd`, variables);
  const code = `if=pflash,format=raw,readonly=on,file=${OVMF}/OVMF_CODE_4M.fd`;
  return ["-machine", "q35", "-drive", code, "-drive", `if=pflash,format=raw,file=${variables}`];
}

function diskArgs(bus: ExportedGuest["bus"], drive: string): string[] {
  if (bus !== "nvme") return ["-drive", `if=${bus},${drive}`];
  return ["-drive", `if=none,id=disk,${drive}`, "-device", "nvme,drive=disk,serial=disk"];
}

/**
 * Starts it and asks for `/` by HTTP until the service answers. What the guest writes goes nowhere.
 *
 * @param wait_ms after which it has failed; the console is in the error then
 */
export async function pageOf(
  { firmware, path, format, bus }: ExportedGuest,
  directory: string,
  wait_ms: number,
): Promise<string> {
  const port = await freePort();
  const log = join(directory, `${firmware}.log`);
  const args = [
    ...(await firmwareArgs(firmware, directory)),
    ...`-accel tcg -m ${MEMORY_MIB} -display none -monitor none -no-reboot`.split(" "),
    "-serial",
    `file:${log}`,
    ...diskArgs(bus, `format=${format},snapshot=on,file=${path}`),
    "-netdev",
    `user,id=net,hostfwd=tcp:127.0.0.1:${port}-:80`,
    "-device",
    "virtio-net-pci,netdev=net",
  ];
  const guest = spawn("qemu-system-x86_64", args, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise<void>((resolve) => void guest.once("exit", () => resolve()));
  try {
    const until = performance.now() + wait_ms;
    while (performance.now() < until && guest.exitCode === null) {
      const answer = await fetch(`http://127.0.0.1:${port}/`, {
        signal: AbortSignal.timeout(10_000),
      }).then(
        (response) => response.text(),
        () => undefined,
      );
      if (answer !== undefined) return answer;
      await new Promise((resolve) => void setTimeout(resolve, ASK_AGAIN_MS));
    }
    const said = await readFile(log, "utf8").catch(() => "");
    throw new Error(`no answer by ${firmware}; the console ended with: ${said.slice(-3000)}`);
  } finally {
    guest.kill("SIGKILL");
    await ended;
  }
}
