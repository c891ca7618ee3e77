/** What the API says beside core's words: peers, clouds, reports, the course of a migration. */
import * as z from "zod";
import {
  appliance,
  component,
  componentDescription,
  componentKind,
  componentReference,
  constraint,
  errorReport,
  fragment,
  machine,
  offer,
  phase,
  plan,
  signedReceipt,
} from "./words.ts";
import { bytes, count, digest, list, milliseconds, name, port, rate, text } from "./scalars.ts";

/** Equal to the federation room's PeerCard: what a cloud hands out so that others trust it. */
export const peerCard = z.object({
  /** It names a file of the allow-list, so it is held to the form of a label. */
  cloud: z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/),
  domain: name,
  jid: name,
  agentKey: z.string().min(1).max(4096),
  xmppCa: z.string().max(65536).exactOptional(),
  xmppAddress: z.object({ host: name, port }).exactOptional(),
});

export const agentInfo = z.object({
  cloud: text,
  domain: text,
  version: text,
  /** The state directory. */
  directory: text,
  card: peerCard,
  /** Digest of the agent's public key, for people to compare. */
  fingerprint: text,
  transport: z.object({
    state: z.enum(["online", "connecting", "offline"]),
    detail: text.exactOptional(),
  }),
  /** TCP port of the data plane; 0 when it does not listen. */
  dataPort: z.int().min(0).max(65535),
  accelerator: text,
  started_ms: milliseconds,
});

export const peerStatus = z.object({
  card: peerCard,
  fingerprint: text,
  /** In the federation's room now. */
  present: z.boolean(),
});

/** A cloud seen in the room; its offer is a hint until `cloud.show` confirms it. */
export const cloudStatus = z.object({
  cloud: text,
  jid: text,
  seen_ms: milliseconds,
  offer: offer.exactOptional(),
});

/** A file whose text the client read, since the agent may not see the client's directory. */
export const fileText = z.object({ fileName: name, text: z.string() });
/** Equal to the compose room's CloudInit. */
export const cloudInit = z.strictObject({
  userData: z.string().exactOptional(),
  metaData: z.string().exactOptional(),
  networkConfig: z.string().exactOptional(),
});
export const lockedRecipe = z.object({ recipe: fileText, lock: fileText });

/** Equal to the build room's BuildProgress. */
export const buildProgress = z.object({
  step: z.enum(["resolve", "download", "install", "difference", "image"]),
  detail: text,
  done: z.number().min(0).exactOptional(),
  total: z.number().min(0).exactOptional(),
});

/** Equal to the repository room's VerifyReport. */
export const verifyReport = z.object({
  components: count,
  blobs: count,
  bytes,
  findings: list(
    z.object({
      digest,
      component: text.exactOptional(),
      problem: z.enum(["missing", "size", "digest", "manifest"]),
    }),
  ),
});

/** A signature of a component, as this cloud sees it. */
export const checkedSignature = z.object({
  component: digest,
  componentName: text,
  /** sha256 of the signer's public key. */
  key: digest,
  /** Absent for a key that is not known here. */
  signer: text.exactOptional(),
  valid: z.boolean().exactOptional(),
});

export const verified = z.object({
  ...verifyReport.shape,
  signatures: list(checkedSignature).exactOptional(),
});

/** What went wrong beside, for people. */
export const remarks = list(text).exactOptional();

export const signed = z.object({
  component: digest,
  key: digest,
  /** The signer's public key as PEM: what others put among their signers. */
  publicKey: text,
  remarks,
});

/** Equal to the compose room's UnmetConstraint. */
export const unmetConstraint = z.object({
  component: digest,
  componentName: text,
  level: z.enum(["binary", "package", "architecture", "os"]),
  need: z.union([constraint, z.object({ type: z.literal("architecture"), name: text })]),
  found: text.exactOptional(),
});

/** What was found for the features of a machine. */
export const selection = z.object({
  features: list(
    z.object({
      wish: text,
      kind: componentKind,
      component: componentReference.exactOptional(),
      held: z.boolean(),
      /** Clouds that would send it. */
      clouds: list(text),
      reason: text.exactOptional(),
    }),
  ),
  unmet: list(unmetConstraint),
  fits: z.boolean(),
  fetchBytes: bytes,
  /** What could not be asked. */
  remarks: list(text).exactOptional(),
});

/** Equal to the repository room's CollectReport. */
export const collectReport = z.object({
  removed: list(z.object({ digest, sizeBytes: bytes })),
  bytes,
  dryRun: z.boolean(),
});

export const applianceCheck = z.object({
  appliance,
  /** False when a finding forbids that the appliance is composed. */
  fits: z.boolean(),
  unmet: list(unmetConstraint),
});

/** A file that is put into the user data block when it is made. */
export const instanceFile = z.object({
  /** Absolute path in the guest. */
  path: z.string().min(2).max(4096).startsWith("/"),
  contentBase64: z.base64(),
  /** Permission bits; default 0644. */
  mode: z.int().min(0).max(0o7777).exactOptional(),
});

export const stopResult = z.object({
  machine,
  stop: z.enum(["graceful", "forced", "was-stopped"]),
});

/** A piece of a machine's console log, cut at a character boundary. */
export const consoleChunk = z.object({
  text,
  /** Offset in bytes at which the next call goes on. */
  offset: bytes,
  /** The log's size in bytes when it was read. */
  sizeBytes: bytes,
});

/** Why the agent chose a destination, when the caller named none. */
export const choice = z.object({
  cloud: text,
  reason: text,
  considered: list(z.object({ cloud: text, accepted: z.boolean(), reason: text })),
});

/** Equal to the placement room's PlacementPolicy. */
export const placementPolicy = z.enum(["none", "least-loaded", "threshold", "selective"]);

/** Equal to the placement room's Verdict: gain and cost of a move, in the federation's currency. */
export const verdict = z.object({
  loadHere: z.number().min(0),
  loadThere: z.number().min(0),
  bytes,
  expected_s: z.number().min(0),
  downtime_s: z.number().min(0),
  egress: z.number().min(0),
  cost: z.number().min(0),
  gain: z.number(),
  passes: z.boolean(),
});

/** Loads are shares of a cloud's processors. */
export const advice = z.object({
  policy: placementPolicy,
  load: z.number().min(0),
  /** Should this cloud send machines at all? */
  sends: z.boolean(),
  reason: text,
  machines: list(
    z.object({
      machine: text,
      name: text,
      /** Absent: it should stay. */
      to: text.exactOptional(),
      reasons: list(text),
      verdict: verdict.exactOptional(),
    }),
  ),
});

export const planResult = z.object({ plan, choice: choice.exactOptional() });

/** Several machines that leave together: what they share is counted with the first that needs it. */
export const fleetPlan = z.object({
  machines: list(
    z.object({
      machine: text,
      machineName: text,
      /** Absent where it cannot leave. */
      plan: plan.exactOptional(),
      choice: choice.exactOptional(),
      error: errorReport.exactOptional(),
    }),
  ),
  totalBytes: bytes,
  /** What each would move besides, if it left alone. */
  sharedBytes: bytes,
  /** One after the other. */
  expected_ms: milliseconds,
  price: z.number().min(0),
});

/** One thing that crosses the wire: a component's image or the user data block. */
export const streamProgress = z.object({
  /** A component id, `userData` or `memory`. */
  stream: text,
  name: text,
  /** Of `totalBytes`, in bytes of the image or block, compressed or skipped ones included. */
  doneBytes: bytes,
  totalBytes: bytes,
  /** Bytes on the wire for it so far. */
  wireBytes: bytes.exactOptional(),
  /** Bytes of it that need not travel, because the destination holds them. */
  savedBytes: bytes.exactOptional(),
  /** The clouds that send it, when not the source alone. */
  sources: list(text).exactOptional(),
  /** The pass under way, of what a running machine goes on changing. */
  pass: count.exactOptional(),
});

const course = {
  /** State of this side's machine, as doc/migration.md names it. */
  state: text,
  phase: phase.exactOptional(),
  streams: list(streamProgress),
  /** Measured over the last seconds, in bits per second. */
  bitsPerSecond: z.number().min(0).exactOptional(),
  /** What it waits for, or what was just done, for people. */
  note: text.exactOptional(),
};

/** A snapshot; a later one replaces an earlier one. */
export const migrationProgress = z.object({ migration: text, ...course });

export const migrationSummary = z.object({
  migration: text,
  machine: text,
  machineName: text,
  role: z.enum(["source", "destination"]),
  /** The cloud on the other side. */
  peer: text,
  state: text,
  phase: phase.exactOptional(),
  /** Absent while it goes on. */
  outcome: z.enum(["completed", "aborted", "fenced"]).exactOptional(),
  started_ms: milliseconds,
  ended_ms: milliseconds.exactOptional(),
});

const journalEntry = z.object({
  seq: count,
  at_ms: milliseconds,
  state: text,
  /** The event that led to the state. */
  event: text,
  detail: text.exactOptional(),
});

/** A migration as this side knows it. */
export const migrationStatus = z.object({
  ...migrationSummary.shape,
  ...course,
  plan: plan.exactOptional(),
  receipt: signedReceipt.exactOptional(),
  error: errorReport.exactOptional(),
  journal: list(journalEntry),
});

export const migrationStarted = z.object({
  /** Absent for a dry run. */
  migration: text.exactOptional(),
  plan: plan.exactOptional(),
  choice: choice.exactOptional(),
});

/** How to reach a registry: who asks has read the files, as the agent may not see them. */
export const registryAccess = z.strictObject({
  username: z.string().min(1).max(1024).exactOptional(),
  password: z.string().max(65_536).exactOptional(),
  /** Text of a `config.json` with credentials, as docker, podman and skopeo write it. */
  authFile: z
    .string()
    .max(2 ** 20)
    .exactOptional(),
  /** PEM of the authority that signs the registry's certificate. */
  ca: z
    .string()
    .max(2 ** 20)
    .exactOptional(),
  plainHttp: z.boolean().exactOptional(),
});

/** Where a component is taken from; paths are absolute and on the agent's host. */
export const componentSource = z.discriminatedUnion("from", [
  z.strictObject({
    from: z.literal("image"),
    path: z.string().startsWith("/").max(4096),
    description: componentDescription,
    fragments: list(fragment).exactOptional(),
  }),
  z.strictObject({
    from: z.literal("oci-layout"),
    path: z.string().startsWith("/").max(4096),
  }),
  z.strictObject({
    from: z.literal("container"),
    /** A directory or an archive, or `oci://…`. */
    path: z.string().min(1).max(4096),
    access: registryAccess.exactOptional(),
    tag: z.string().min(1).max(256).exactOptional(),
    /** `OS/ARCHITECTURE[/VARIANT]`, as containers name them; default `linux/amd64`. */
    platform: z
      .string()
      .max(128)
      .regex(/^[a-z0-9]+\/[a-z0-9]+(\/[a-z0-9]+)?$/)
      .exactOptional(),
    /** Of the OS component. */
    name: name.exactOptional(),
    version: name.exactOptional(),
    /** Layers become components of their own where that is sound. */
    layers: z.boolean().exactOptional(),
  }),
]);

export const registryReference = z.string().min(1).max(1024).startsWith("oci://");

export const registryProgress = z.object({ blob: digest, doneBytes: bytes, totalBytes: bytes });

export const carried = z.object({
  component,
  /** Where the registry has it. */
  reference: text,
  /** Bytes of blobs that moved; what was there already is not among them. */
  movedBytes: bytes,
});

export const removed = z.object({ removed: text });
export const built = z.object({ component, lock: text, remarks });
export const rateLimit = rate.exactOptional();
export const kind = componentKind;
