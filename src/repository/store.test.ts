import { join } from "node:path";
import { realWorld } from "#system";
import { openRepository } from "#repository";
import { temporary } from "./fixtures.suite.ts";
import { testComponentStore } from "./store.suite.ts";

testComponentStore("OCI layout", (work) =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    let others = 0;
    await work({
      store,
      reopen: () => openRepository(realWorld(), directory),
      another: () => openRepository(realWorld(), join(directory, `other-${(others += 1)}`)),
    });
  }),
);
