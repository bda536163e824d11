/** Which Python to use: where to look, in which order, and what was found there. */

export type Place = "setting" | "own" | "extension" | "path";

export interface Candidate {
  place: Place;
  path: string;
}

export interface Places {
  setting: string;
  own: string | undefined;
  extension: string | undefined;
  path: readonly string[];
  trusted: boolean;
}

export interface Probe {
  python: readonly [number, number];
  diffill: string | null;
  venv: boolean;
}

export type Choice =
  | { kind: "use"; candidate: Candidate; version: string }
  | { kind: "install"; base: Candidate }
  | { kind: "none"; sentence: string };

export const LEAST: readonly [number, number] = [3, 10];

/** Printed by a Python that is asked what it has; importing nothing of ours keeps it quick. */
export const PROBE_SCRIPT = `
import importlib.metadata, importlib.util, json, sys
has = all(importlib.util.find_spec(name) for name in ("model_runtime", "lsp_server"))
try:
    version = importlib.metadata.version("diffill") if has else None
except importlib.metadata.PackageNotFoundError:
    version = "unknown"
venv = bool(importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"))
print(json.dumps({"python": sys.version_info[:2], "diffill": version, "venv": venv}))
`.trim();

/** The Pythons to ask, first choice first. A setting leaves no other; a workspace's interpreter needs its trust. */
export function candidates(places: Places, home: string): Candidate[] {
  const setting = places.setting.trim();
  if (setting !== "") {
    return [{ place: "setting", path: expandHome(setting, home) }];
  }
  const found: Candidate[] = [];
  const add = (place: Place, path: string | undefined): void => {
    if (path !== undefined && path !== "" && !found.some((one) => one.path === path)) {
      found.push({ place, path });
    }
  };
  add("own", places.own);
  add("extension", places.trusted ? places.extension : undefined);
  for (const path of places.path) {
    add("path", path);
  }
  return found;
}

/** A path with ~ for the home folder, spelled out. */
export function expandHome(path: string, home: string): string {
  return /^~(?=[/\\]|$)/.test(path) ? home + path.slice(1) : path;
}

/** The executables of these names in the folders of a PATH, in its order; relative folders are left out. */
export function onPath(
  path: string,
  names: readonly string[],
  windows: boolean,
  exists: (file: string) => boolean,
): string[] {
  const [separator, slash, ending] = windows ? [";", "\\", ".exe"] : [":", "/", ""];
  const absolute = windows ? /^([A-Za-z]:[\\/]|\\\\)/ : /^\//;
  const folders = path.split(separator).filter((folder) => absolute.test(folder));
  const files = names.flatMap((name) => folders.map((folder) => folder.replace(/[/\\]+$/, "") + slash + name + ending));
  return [...new Set(files.filter(exists))];
}

/** What a Python printed for PROBE_SCRIPT; undefined if it is nothing of the kind. */
export function readProbe(output: string): Probe | undefined {
  try {
    const value: unknown = JSON.parse(output.trim().split("\n").at(-1) ?? "");
    if (typeof value !== "object" || value === null || !("python" in value) || !Array.isArray(value.python)) {
      return undefined;
    }
    const [major, minor] = value.python as unknown[];
    if (typeof major !== "number" || typeof minor !== "number") {
      return undefined;
    }
    const version = "diffill" in value && typeof value.diffill === "string" ? value.diffill : null;
    return { python: [major, minor], diffill: version, venv: "venv" in value && value.venv === true };
  } catch {
    return undefined;
  }
}

/** Whether a Python is new enough. */
export function isNewEnough(probe: Probe): boolean {
  const [major, minor] = probe.python;
  return major > LEAST[0] || (major === LEAST[0] && minor >= LEAST[1]);
}

/** Take the first Python that has Diffill (unless `anew`), or else the first that an environment can be made with. */
export function choose(found: readonly (readonly [Candidate, Probe | undefined])[], anew = false): Choice {
  for (const [candidate, probe] of anew ? [] : found) {
    if (probe !== undefined && isNewEnough(probe) && probe.diffill !== null) {
      return { kind: "use", candidate, version: probe.diffill };
    }
  }
  for (const [candidate, probe] of found) {
    if (candidate.place !== "own" && probe !== undefined && isNewEnough(probe) && probe.venv) {
      return { kind: "install", base: candidate };
    }
  }
  return { kind: "none", sentence: why(found) };
}

/** One sentence about why no Python serves. */
function why(found: readonly (readonly [Candidate, Probe | undefined])[]): string {
  const least = LEAST.join(".");
  const first = found[0];
  if (first?.[0].place === "setting") {
    const [candidate, probe] = first;
    if (probe === undefined) {
      return `The setting diffill.python names ${candidate.path}, which is no Python that starts.`;
    }
    if (!isNewEnough(probe)) {
      return `The setting diffill.python names Python ${probe.python.join(".")}; Diffill needs ${least} or newer.`;
    }
    return `The setting diffill.python names a Python without Diffill, and it cannot make environments.`;
  }
  const old = found.find(([, probe]) => probe !== undefined && !isNewEnough(probe));
  if (old?.[1] !== undefined) {
    return `Diffill needs Python ${least} or newer; found was ${old[1].python.join(".")}.`;
  }
  if (found.some(([, probe]) => probe !== undefined)) {
    return "Diffill is not installed, and no Python was found that can make environments (the module venv is missing).";
  }
  return `Diffill needs Python ${least} or newer, and none was found.`;
}
