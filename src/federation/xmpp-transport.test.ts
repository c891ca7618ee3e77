import { realWorld } from "#system";
import { startClouds } from "./clouds.suite.ts";
import { transportSuite } from "./transport.suite.ts";

transportSuite("XMPP, two servers", async () => {
  const clouds = await startClouds(realWorld(), ["alpha", "beta"]);
  return { make: (cloud) => clouds.cloud(cloud).transport(), stop: () => clouds.stop() };
});
