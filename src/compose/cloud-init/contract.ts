/** What operators give a new machine, as cloud-init's NoCloud source takes it; texts as given. */
export interface CloudInit {
  readonly userData?: string;
  readonly metaData?: string;
  readonly networkConfig?: string;
}

/** What is known of the guest before it has a user data block. */
export interface GuestFacts {
  /** Names of the Debian packages that its components hold. */
  readonly packages: ReadonlySet<string>;
  /** Text of a file of its components, empty where there is none. */
  readonly textOf: (path: string) => Promise<string>;
}

export interface MachineIdentity {
  readonly uuid: string;
  readonly hostname: string;
}
