import type { Digest } from "./digest.ts";

/** One read-only disk of a composed image: a component's or the glue's EROFS image. */
export interface ComposedLayer {
  /** Component id, or digest of the glue image. */
  readonly digest: Digest;
  readonly name: string;
  readonly path: string;
  readonly sizeBytes: number;
  /** EROFS superblock UUID: the head of the tree's digest, by which the initramfs finds it. */
  readonly uuid: string;
}

/**
 * The composed image of an appliance on this cloud, by reference: nothing of the components is
 * copied. Layers are lowest first (kernel, os, programs, glue). `digest` covers every byte that
 * the guest can see of it (layers, kernel, initramfs, command line) and none of the paths, so two
 * clouds that composed the same appliance have equal digests.
 */
export interface ComposedDisks {
  readonly appliance: Digest;
  readonly digest: Digest;
  readonly kernelPath: string;
  readonly initramfsPath: string;
  /** Kernel command line without what the hypervisor adds (console). */
  readonly commandLine: string;
  readonly layers: readonly ComposedLayer[];
}
