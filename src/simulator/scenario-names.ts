/** What a scenario's fields must be to each other. */
import type { ScenarioFile } from "./scenario-schema.ts";

type Path = readonly PropertyKey[];

/** A fault of a field, as the schema's own are. */
export interface FieldFault {
  readonly path: Path;
  readonly message: string;
}

const SAMPLES_MAX = 10_000;
const MACHINES_MAX = 10_000_000;

/** Names that nothing has, matrices that do not fit, and what contradicts itself. */
export function crossFaults(file: ScenarioFile): FieldFault[] {
  return [
    ...matrixFaults(file.network),
    ...catalogueFaults(file),
    ...cloudFaults(file),
    ...machineFaults(file),
    ...rangeFaults(file),
  ];
}

function matrixFaults({
  links,
  regions,
  rates,
  roundTrips,
}: ScenarioFile["network"]): FieldFault[] {
  const faults: FieldFault[] = [];
  const add = (path: Path, message: string): void => void faults.push({ path, message });
  const matrices = { rates, roundTrips };
  for (const [field, matrix] of Object.entries(matrices)) {
    if (matrix === undefined) continue;
    const path = ["network", field];
    if (links !== undefined)
      add(path, `is given already by links: ${links}; leave one of them out`);
    if (regions === undefined) add(path, "needs network.regions, which names its rows and columns");
    const size = regions?.length ?? matrix.length;
    if (matrix.length !== size) add(path, `must have a row for each of the ${size} regions`);
    for (const [row, cells] of matrix.entries()) {
      if (cells.length === size) continue;
      add([...path, row], `has ${cells.length} columns; it must have ${size}, one for each region`);
    }
  }
  return faults;
}

function catalogueFaults({ catalogue }: ScenarioFile): FieldFault[] {
  const { profile, components, named, programs } = catalogue;
  const faults: FieldFault[] = [];
  const add = (path: Path, message: string): void => void faults.push({ path, message });
  if ((profile === undefined) === (components === undefined)) {
    add(["catalogue"], "must have either a profile or components");
  }
  if (programs !== undefined && profile === undefined) {
    add(["catalogue", "programs"], "says how much of a profile is taken; there is no profile");
  }
  if (named !== undefined && components === undefined) {
    add(["catalogue", "named"], "needs components that it can name");
  }
  const kinds = new Map((components ?? []).map(({ name, kind }) => [name, kind]));
  if (components !== undefined && kinds.size < components.length) {
    add(["catalogue", "components"], "has two components of one name; each must be unique");
  }
  for (const kind of ["kernel", "os"]) {
    if (components === undefined || [...kinds.values()].some((one) => one === kind)) continue;
    add(["catalogue", "components"], `has no component of kind ${kind}; an appliance needs one`);
  }
  for (const [index, appliance] of (named ?? []).entries()) {
    for (const [place, name] of appliance.components.entries()) {
      const wanted = ["kernel", "os"][place] ?? "program";
      if (kinds.get(name) === wanted) continue;
      const path = ["catalogue", "named", index, "components", place];
      add(path, `${name} must be a component of kind ${wanted} in catalogue.components`);
    }
  }
  return faults;
}

function cloudFaults({ clouds, network, catalogue, duration }: ScenarioFile): FieldFault[] {
  const faults: FieldFault[] = [];
  const names = new Set<string>();
  const components = new Set((catalogue.components ?? []).map(({ name }) => name));
  for (const [index, group] of clouds.entries()) {
    const add = (field: Path, message: string): void =>
      void faults.push({ path: ["clouds", index, ...field], message });
    if (names.has(group.name)) add(["name"], `${group.name} is given twice; each must be unique`);
    names.add(group.name);
    const region = group.region ?? group.name;
    if (network.regions !== undefined && !network.regions.includes(region)) {
      add(["region"], `${region} is not among network.regions: ${network.regions.join(", ")}`);
    }
    if (group.joins >= duration) add(["joins"], "must be before the end of the duration");
    if (group.leaves !== undefined && group.leaves <= group.joins) {
      add(["leaves"], "must be after the cloud joins");
    }
    for (const [place, name] of group.holds.entries()) {
      if (catalogue.components === undefined || components.has(name)) continue;
      add(["holds", place], `${name} is not in catalogue.components`);
    }
  }
  if (clouds.every(({ joins }) => joins > 0)) {
    faults.push({ path: ["clouds"], message: "needs a cloud that is there from the beginning" });
  }
  return faults;
}

function machineFaults({ catalogue, clouds, machines, migrations }: ScenarioFile): FieldFault[] {
  const faults: FieldFault[] = [];
  const single = new Set(clouds.flatMap(({ name, count }) => (count === 1 ? [name] : [])));
  const numbered = (name: string): boolean =>
    clouds.some(({ name: group, count }) => {
      const number = Number(name.slice(group.length + 1));
      return name === `${group}-${number}` && number >= 1 && number <= count && count > 1;
    });
  const isCloud = (name: string): boolean => single.has(name) || numbered(name);
  const appliances = new Set((catalogue.named ?? []).map(({ name }) => name));
  const names = new Set((machines.named ?? []).map(({ name }) => name));
  for (const [index, machine] of (machines.named ?? []).entries()) {
    const path = ["machines", "named", index];
    if (!isCloud(machine.cloud))
      faults.push({ path: [...path, "cloud"], message: unknownCloud(machine.cloud) });
    if (appliances.has(machine.appliance)) continue;
    const message = `${machine.appliance} is not among catalogue.named`;
    faults.push({ path: [...path, "appliance"], message });
  }
  for (const [index, { machine, to }] of (migrations.named ?? []).entries()) {
    const path = ["migrations", "named", index];
    if (!isCloud(to)) faults.push({ path: [...path, "to"], message: unknownCloud(to) });
    if (names.has(machine)) continue;
    faults.push({ path: [...path, "machine"], message: `${machine} is not among machines.named` });
  }
  return faults;
}

function unknownCloud(name: string): string {
  return `${name} is no cloud; a group of several is numbered, as in NAME-1`;
}

function rangeFaults({ duration, machines, policies, sample }: ScenarioFile): FieldFault[] {
  const faults: FieldFault[] = [];
  if (sample !== undefined && duration / sample > SAMPLES_MAX) {
    const message = `gives more than ${SAMPLES_MAX} points; make it longer`;
    faults.push({ path: ["sample"], message });
  }
  if ((machines.named === undefined) === (machines.count === 0)) {
    const message = `must have either named machines or a count from 1 to ${MACHINES_MAX}`;
    faults.push({ path: ["machines"], message });
  }
  const names = policies.map(nameOfPolicy);
  for (const [index, name] of names.entries()) {
    if (names.indexOf(name) === index) continue;
    faults.push({ path: ["policies", index], message: `two policies are called ${name}` });
  }
  return faults;
}

export function nameOfPolicy({
  name,
  transfer,
  hot,
  placement,
}: ScenarioFile["policies"][number]): string {
  if (name !== undefined) return name;
  const memory = hot === undefined ? [] : [hot === "auto" ? "hot" : hot];
  return [transfer, ...memory, ...(placement === "none" ? [] : [placement])].join("+");
}
