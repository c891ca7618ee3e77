import type { Component } from "#core";
import type { Platform } from "#repository";

export interface ContainerRequest {
  /** A directory with an OCI image layout, or an archive of one or of Docker's; absolute. */
  readonly path: string;
  /** Which image, where there are several. */
  readonly tag?: string;
  readonly platform: Platform;
  /** Of the OS component; absent: the image's own name. */
  readonly name?: string;
  /** Absent: what the image says, else from its digest. */
  readonly version?: string;
  /** Layers become components of their own where that is sound; else the image is one. */
  readonly layers: boolean;
  /** An empty directory for what is only needed meanwhile; the caller removes it. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

export interface ContainerResult {
  /** The OS first, then programs in the order in which they are stacked. */
  readonly components: readonly Component[];
  readonly remarks: readonly string[];
}
