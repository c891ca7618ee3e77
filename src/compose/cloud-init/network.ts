/** Network configuration, versions 1 and 2, as files of systemd-networkd. Pure. */
import { z } from "zod";
import type { InstanceFile } from "../contract.ts";
import { text, type Pieces } from "./commands.ts";
import { checked, invalid, readYaml } from "./document.ts";

const INTERFACES_MAX = 32;

const address = z.union([z.ipv4(), z.ipv6()]);
const cidr = z.union([z.cidrv4(), z.cidrv6()]);
const interfaceName = z.string().regex(/^[A-Za-z0-9_.-]{1,15}$/, "is not an interface's name");
const mac = z.string().regex(/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/, "is not a MAC address");
const domain = z.string().regex(/^[A-Za-z0-9.-]{1,253}$/, "is not a domain");
const route = z.strictObject({
  to: z.union([z.literal("default"), cidr]),
  via: address,
  metric: z.int().min(0).max(4_294_967_295).optional(),
});

const ethernet = z.strictObject({
  match: z
    .strictObject({
      name: z
        .string()
        .regex(/^[A-Za-z0-9_.*?-]{1,64}$/, "is not a pattern of names")
        .optional(),
      macaddress: mac.optional(),
    })
    .optional(),
  dhcp4: z.boolean().optional(),
  dhcp6: z.boolean().optional(),
  "dhcp-identifier": z.literal("mac").optional(),
  "accept-ra": z.boolean().optional(),
  addresses: z.array(cidr).max(64).optional(),
  gateway4: z.ipv4().optional(),
  gateway6: z.ipv6().optional(),
  routes: z.array(route).max(64).optional(),
  nameservers: z
    .strictObject({
      addresses: z.array(address).max(16).optional(),
      search: z.array(domain).max(16).optional(),
    })
    .optional(),
  mtu: z.int().min(68).max(65_535).optional(),
  optional: z.boolean().optional(),
});

const versionTwo = z.strictObject({
  version: z.literal(2),
  renderer: z.literal("networkd").optional(),
  ethernets: z
    .record(interfaceName, ethernet)
    .refine((all) => Object.keys(all).length <= INTERFACES_MAX, {
      error: `has more than ${INTERFACES_MAX} interfaces`,
    }),
});

type Ethernet = z.output<typeof ethernet>;

const subnet = z.strictObject({
  type: z.enum(["dhcp", "dhcp4", "dhcp6", "static", "static6", "manual"]),
  address: z.union([cidr, address]).optional(),
  netmask: z.ipv4().optional(),
  gateway: address.optional(),
  dns_nameservers: z.union([address, z.array(address).max(16)]).optional(),
  dns_search: z.union([domain, z.array(domain).max(16)]).optional(),
});
const versionOne = z.strictObject({
  version: z.literal(1),
  config: z
    .array(
      z.discriminatedUnion("type", [
        z.strictObject({
          type: z.literal("physical"),
          name: interfaceName,
          mac_address: mac.optional(),
          mtu: z.int().min(68).max(65_535).optional(),
          subnets: z.array(subnet).max(16).default([]),
        }),
        z.strictObject({
          type: z.literal("nameserver"),
          address: z.union([address, z.array(address).max(16)]),
          search: z.array(domain).max(16).optional(),
        }),
      ]),
    )
    .max(INTERFACES_MAX),
});

/**
 * @param hasResolver whether the guest has systemd-resolved; else `/etc/resolv.conf` is written
 * @throws `compose.cloud-init-invalid`, `compose.cloud-init-unsupported` (misuse)
 */
export function networkPieces(given: string, hasResolver: boolean): Pieces {
  const ethernets = Object.entries(decode(given));
  const files = ethernets.map(([name, one]) =>
    text(`/etc/systemd/network/10-tessera-${name}.network`, networkFile(name, one)),
  );
  const links = [
    {
      path: "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
      target: "/lib/systemd/system/systemd-networkd.service",
    },
  ];
  return { files: [...files, ...(hasResolver ? [] : resolverFile(ethernets))], links };
}

function decode(given: string): Readonly<Record<string, Ethernet>> {
  const value = readYaml("network-config", given);
  const wrapper = z.object({ network: z.unknown() }).safeParse(value);
  const inner =
    wrapper.success && wrapper.data.network !== undefined ? wrapper.data.network : value;
  const version = z.looseObject({ version: z.unknown() }).safeParse(inner);
  if (version.success && version.data.version === 1) {
    return translated(checked("network-config", versionOne, inner));
  }
  return checked("network-config", versionTwo, inner).ethernets;
}

function translated({ config }: z.output<typeof versionOne>): Record<string, Ethernet> {
  const servers = config.flatMap((one) => (one.type === "nameserver" ? [one] : []));
  const common = {
    addresses: servers.flatMap(({ address: list }) => list),
    search: servers.flatMap(({ search = [] }) => search),
  };
  const found: Record<string, Ethernet> = {};
  for (const one of config) {
    if (one.type !== "physical") continue;
    const { name, mac_address, mtu, subnets } = one;
    const own = {
      addresses: subnets.flatMap(({ dns_nameservers = [] }) => dns_nameservers),
      search: subnets.flatMap(({ dns_search = [] }) => dns_search),
    };
    found[name] = {
      match: mac_address === undefined ? { name } : { macaddress: mac_address },
      mtu,
      dhcp4: subnets.some(({ type }) => type === "dhcp" || type === "dhcp4"),
      dhcp6: subnets.some(({ type }) => type === "dhcp6"),
      addresses: subnets.flatMap(addressOf),
      routes: subnets.flatMap(({ gateway }) =>
        gateway === undefined ? [] : [{ to: "default" as const, via: gateway }],
      ),
      nameservers: {
        addresses: [...own.addresses, ...common.addresses],
        search: [...own.search, ...common.search],
      },
    };
  }
  return found;
}

function addressOf({ type, address: given, netmask }: z.output<typeof subnet>): string[] {
  if (!type.startsWith("static")) return [];
  if (given === undefined) throw invalid("network-config", "has a static subnet without address");
  if (given.includes("/")) return [given];
  if (netmask === undefined) throw invalid("network-config", `has no netmask for ${given}`);
  const bits = netmask
    .split(".")
    .map((part) => Number(part).toString(2).padStart(8, "0"))
    .join("");
  if (!/^1*0*$/.test(bits)) throw invalid("network-config", `${netmask} is not a netmask`);
  return [`${given}/${bits.replaceAll("0", "").length}`];
}

function networkFile(name: string, one: Ethernet): string {
  const { match = {}, addresses = [], nameservers = {}, gateway4, gateway6, routes = [] } = one;
  const dhcp =
    one.dhcp4 === true ? (one.dhcp6 === true ? "yes" : "ipv4") : one.dhcp6 === true ? "ipv6" : "no";
  const via = [gateway4, gateway6].filter((gateway) => gateway !== undefined);
  const sections = [
    section("Match", {
      Name: match.name ?? (match.macaddress === undefined ? name : undefined),
      MACAddress: match.macaddress,
    }),
    section("Link", {
      MTUBytes: one.mtu,
      RequiredForOnline: one.optional === true ? "no" : undefined,
    }),
    section("Network", {
      DHCP: dhcp,
      IPv6AcceptRA: one["accept-ra"] === undefined ? undefined : one["accept-ra"] ? "yes" : "no",
      Address: addresses,
      Gateway: via,
      DNS: nameservers.addresses,
      Domains: nameservers.search?.length ? nameservers.search.join(" ") : undefined,
    }),
    section("DHCPv4", { ClientIdentifier: one["dhcp-identifier"] }),
    ...routes.map(({ to, via: gateway, metric }) =>
      section("Route", { Destination: destination(to, gateway), Gateway: gateway, Metric: metric }),
    ),
  ];
  return sections.filter(Boolean).join("\n");
}

function destination(to: string, via: string): string {
  if (to !== "default") return to;
  return via.includes(":") ? "::/0" : "0.0.0.0/0";
}

type Values = Readonly<Record<string, string | number | readonly string[] | undefined>>;

function section(name: string, values: Values): string {
  const lines = Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : [value].flat().map((one) => `${key}=${one}\n`),
  );
  return lines.length === 0 ? "" : `[${name}]\n${lines.join("")}`;
}

function resolverFile(ethernets: readonly (readonly [string, Ethernet])[]): InstanceFile[] {
  const lists = ethernets.flatMap(([, { nameservers }]) => nameservers ?? []);
  const servers = new Set(lists.flatMap(({ addresses = [] }) => addresses));
  const search = new Set(lists.flatMap(({ search: list = [] }) => list));
  if (servers.size === 0 && search.size === 0) return [];
  const lines = [...servers].map((server) => `nameserver ${server}\n`);
  if (search.size > 0) lines.push(`search ${[...search].join(" ")}\n`);
  return [text("/etc/resolv.conf", lines.join(""))];
}
