import { join } from "node:path";
import { realWorld } from "#system";
import { openRepository } from "#repository";
import { temporary } from "./fixtures.suite.ts";
import { testStoreContents } from "./contents.suite.ts";
import { testComponentStore, type StoreHarness } from "./store.suite.ts";

const run = (work: (harness: StoreHarness) => Promise<void>) =>
  temporary(async (directory) => {
    const store = await openRepository(realWorld(), directory);
    let others = 0;
    await work({
      store,
      reopen: () => openRepository(realWorld(), directory),
      another: () => openRepository(realWorld(), join(directory, `other-${(others += 1)}`)),
    });
  });

testComponentStore("OCI layout", run);
testStoreContents("OCI layout", run);
