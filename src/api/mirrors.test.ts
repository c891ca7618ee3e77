/** What crosses the API from other rooms has the shape that those rooms give it; tsc holds it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { BuildProgress } from "#build";
import type { UnmetConstraint } from "#compose";
import type { PeerCard } from "#federation";
import type { PlacementPolicy, Verdict } from "#placement";
import type { CollectReport, VerifyReport } from "#repository";
import type { ExportedFile, ExportProgress, ExportProof, ExportSurvey } from "#export";
import type { ImportProgress, ImportProof, ImportSurvey } from "#import";
import * as z from "zod";
import * as exports from "./exports.ts";
import * as imports from "./imports.ts";
import { mirrors } from "./scalars.ts";
import * as view from "./views.ts";
import * as word from "./words.ts";

test("schemas mirror the contracts of other rooms", () => {
  mirrors<BuildProgress>()(view.buildProgress);
  mirrors<UnmetConstraint>()(view.unmetConstraint);
  mirrors<PeerCard>()(view.peerCard);
  mirrors<CollectReport>()(view.collectReport);
  mirrors<VerifyReport>()(view.verifyReport);
  mirrors<ExportProgress>()(exports.exportProgress);
  mirrors<ExportSurvey>()(exports.exportSurvey);
  mirrors<ExportProof>()(exports.exportProof);
  mirrors<ExportedFile>()(exports.exportedFile);
  mirrors<ImportProgress>()(imports.importProgress);
  mirrors<ImportSurvey>()(imports.importSurvey);
  mirrors<ImportProof>()(imports.importProof);
  mirrors<PlacementPolicy>()(view.placementPolicy);
  mirrors<Verdict>()(view.verdict);
});

test("a schema that differs in one optional member does not compile", () => {
  // @ts-expect-error an optional member is missing
  mirrors<{ a: string; b?: number }>()(z.object({ a: z.string() }));
  // @ts-expect-error a member may be undefined here and only absent there
  mirrors<{ b?: number }>()(z.object({ b: z.number().optional() }));
  mirrors<{ readonly b?: number }>()(z.object({ b: z.number().exactOptional() }));
});

test("a digest is exactly sha256: and 64 lower-case digits", () => {
  const digits = "0123456789abcdef".repeat(4);
  assert.equal(view.removed.safeParse({ removed: digits }).success, true);
  for (const [text, valid] of [
    [`sha256:${digits}`, true],
    [`sha256:${digits}0`, false],
    [`sha256:${digits.toUpperCase()}`, false],
    [digits, false],
  ] as const) {
    const parsed = word.blobReference.safeParse({ digest: text, sizeBytes: 1 });
    assert.equal(parsed.success, valid, text);
  }
});
