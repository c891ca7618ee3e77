import type { ComponentDescription, Digest, Fragment } from "#core";
import type { Tree } from "#image";

/** A package file that a recipe's lock names: the same lock gives the same component. */
export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  /** Path below the archive's root, for instance `pool/main/n/nginx/nginx_1.22.1-9_amd64.deb`. */
  readonly file: string;
  /** Which of the recipe's sources has it. */
  readonly source: string;
  readonly sizeBytes: number;
  readonly sha256: Digest;
}

/** What building gives: a tree and its description, ready for the image writer and a repository. */
export interface BuiltComponent {
  readonly description: ComponentDescription;
  readonly fragments: readonly Fragment[];
  readonly tree: Tree;
}

export interface BuildProgress {
  readonly step: "resolve" | "download" | "install" | "difference" | "image";
  readonly detail: string;
  readonly done?: number;
  readonly total?: number;
}
