/** A sender that passes the handshake and then does as it likes. */
import { once } from "node:events";
import { createServer, type TLSSocket } from "node:tls";
import { Connection } from "./connection.ts";
import type { Clouds } from "./fixture.suite.ts";
import { encodeFrame, type Frame } from "./frame.ts";
import { listenHandshake } from "./handshake.ts";
import { ALPN, TIMING, TYPE, type FrameType } from "./protocol.ts";
import { newToken } from "./tokens.ts";

/** What a sender answers to a frame of its receiver. */
export type Script = (
  send: (type: FrameType, payload: Buffer, flags?: number) => void,
  f: Frame,
) => void;

/** A sender that passes the handshake and then lies as its script says, at each OPEN. */
export async function liar(clouds: Clouds, script: Script): Promise<number> {
  const server = createServer({
    key: clouds.sender.key,
    cert: clouds.sender.certificatePem,
    ALPNProtocols: [ALPN],
    requestCert: true,
    rejectUnauthorized: false,
  });
  const sockets = new Set<TLSSocket>();
  server.on("secureConnection", (tls) => {
    sockets.add(tls);
    tls.on("error", () => undefined);
    const connection = new Connection(clouds.world.clock, TIMING, { tls, raw: tls });
    const admission = {
      find: () => 1,
      certificateOf: () => clouds.receiver.certificate,
      present: () => Promise.resolve(newToken(clouds.world.random)),
      confirm: () => Promise.resolve(),
    };
    const handshake = listenHandshake(connection, clouds.receiver.certificate, admission);
    void handshake.then(() =>
      connection.serve((frame) => {
        if (frame.type !== TYPE.OPEN) return;
        script((type, payload, flags = 0) => {
          tls.write(encodeFrame(type, frame.stream, payload, flags));
        }, frame);
      }),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  clouds.onDispose(() => {
    for (const socket of sockets) socket.destroy();
    return new Promise((resolve) => server.close(resolve));
  });
  return (server.address() as { port: number }).port;
}
