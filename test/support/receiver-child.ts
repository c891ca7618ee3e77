/** A receiver in a process of its own, for tests that kill it. Prints its progress. */
import { readFileSync } from "node:fs";
import type { BlobReference, Digest } from "#core";
import { openRepository } from "#repository";
import { realWorld } from "#system";
import { connectReceiver, loadOrCreateDataIdentity } from "#transfer";

interface Configuration {
  readonly directory: string;
  readonly port: number;
  readonly certificate: Digest;
  readonly token: string;
  readonly blob: BlobReference;
  readonly path: string;
}

const text = readFileSync(process.argv[2] ?? "", "utf8");
const { directory, port, certificate, token, blob, path } = JSON.parse(text) as Configuration;
const world = realWorld();
const tokenPath = `${directory}/resume-token`;
const receiver = connectReceiver(world, {
  identity: await loadOrCreateDataIdentity(world, `${directory}/receiver`),
  endpoint: { candidates: [{ host: "127.0.0.1", port }], certificate },
  session: "m1",
  token,
  store: await openRepository(world, `${directory}/repository`),
  resume: {
    load: async () => {
      if ((await world.files.status(tokenPath)) === undefined) return undefined;
      return Buffer.from(await world.files.readFile(tokenPath, 100)).toString();
    },
    save: (fresh) => world.files.writeFileAtomic(tokenPath, fresh, 0o600),
  },
  onProgress: ({ stream, doneBytes }) => process.stdout.write(`${stream} ${doneBytes}\n`),
});
const signal = AbortSignal.timeout(60_000);
const [, report] = await Promise.all([
  receiver.fetchBlob(blob, signal),
  receiver.fetchUserData(path, signal),
]);
await receiver.close();
process.stdout.write(`done ${report.digest}\n`);
