/** The models that `diffill models list --json` names, as entries of a list to choose from. */
import { asObject } from "./values";

export interface Model {
  name: string;
  licence: string;
  sizeBytes: number | undefined;
  parameters: number | undefined;
  here: boolean; // on this machine
  backends: string[];
  title: string;
  instructions: boolean; // whether it follows them
  use: string | undefined; // what it is good for
  fits: string | undefined; // whether it fits this machine, as the command line says it
  terms: string | undefined; // what the licence allows
  licenceUrl: string | undefined;
  accepted: boolean; // the licence, earlier
  missing: string | undefined; // a package that its Python lacks
}

export interface Step {
  file: string;
  done: number;
  total: number;
}

export interface Entry {
  label: string;
  description: string;
  detail: string;
}

/** Read the list; what is no model in it is left out. */
export function readModels(output: string): Model[] {
  const value: unknown = JSON.parse(output);
  const list = Array.isArray(value) ? (value as unknown[]) : [];
  return list.flatMap((item) => {
    const one = asObject(item);
    if (typeof one?.["name"] !== "string") {
      return [];
    }
    const text = (name: string): string | undefined => (typeof one[name] === "string" ? one[name] : undefined);
    const number = (name: string): number | undefined => (typeof one[name] === "number" ? one[name] : undefined);
    const backends = Array.isArray(one["backends"]) ? one["backends"].filter((name) => typeof name === "string") : [];
    const licence = one["license"] ?? one["licence"];
    return [
      {
        name: one["name"],
        licence: typeof licence === "string" ? licence : "not stated",
        sizeBytes: number("size_bytes"),
        parameters: number("parameters"),
        here: one["installed"] !== false,
        backends,
        title: text("title") ?? one["name"],
        instructions: one["instructions"] === true,
        use: text("use"),
        fits: text("fits"),
        terms: text("license_terms"),
        licenceUrl: text("license_url"),
        accepted: one["license_accepted"] === true,
        missing: text("missing"),
      },
    ];
  });
}

/** Bytes as a person reads them, in units of 1000. */
export function size(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 10 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ""}`;
}

/** Whether a model fits into the machine's memory: its weights, and a quarter more to work in. */
export function fits(model: Model, memoryBytes: number): string {
  if (model.sizeBytes === undefined) {
    return "size not known";
  }
  const needed = model.sizeBytes * 1.25;
  const memory = `${size(memoryBytes)} of memory`;
  return needed <= memoryBytes ? `fits this machine (${memory})` : `too large for this machine (${memory})`;
}

/** A model as an entry of the list. */
export function entry(model: Model, current: string, memoryBytes: number): Entry {
  const parts = [
    `licence ${model.licence}`,
    ...(model.parameters === undefined ? [] : [`${millions(model.parameters)} parameters`]),
    ...(model.sizeBytes === undefined ? [] : [size(model.sizeBytes)]),
    model.fits ?? fits(model, memoryBytes),
    ...(model.use === undefined ? [] : [model.use]),
  ];
  return {
    label: `${model.name === current ? "$(check) " : ""}${model.name}`,
    description: [model.name === current ? "in use" : "", model.here ? "" : "not on this machine"].filter(Boolean).join(", "),
    detail: parts.join(" · "),
  };
}

function millions(count: number): string {
  return count >= 1e9 ? `${(count / 1e9).toFixed(1)} B` : `${(count / 1e6).toFixed(1)} M`;
}

/** What is asked before a model is fetched: a heading, and what the licence and the machine have to say. */
export function question(model: Model): { message: string; detail: string } {
  const lines = [
    `Licence: ${model.licence}${model.terms === undefined ? "" : ` — ${model.terms}`}.`,
    ...(model.licenceUrl === undefined ? [] : [model.licenceUrl]),
    `Download: ${model.sizeBytes === undefined ? "size not known" : `about ${size(model.sizeBytes)}`}. It can be stopped, and goes on where it stopped.`,
    ...(model.fits === undefined ? [] : [`${model.fits.charAt(0).toUpperCase()}${model.fits.slice(1)}.`]),
    ...(model.missing === undefined ? [] : [`It runs once ${model.missing} is installed: pip install "diffill[${model.missing}]".`]),
  ];
  const verb = model.accepted ? "Download" : "Accept the licence of";
  return { message: `${verb} ${model.title}${model.accepted ? "?" : " and download it?"}`, detail: lines.join("\n") };
}

/** A line of what `diffill models pull --json` prints; undefined for any other. */
export function readStep(line: string): Step | undefined {
  try {
    const one = asObject(JSON.parse(line) as unknown);
    const { file, done, total } = one ?? {};
    return typeof file === "string" && typeof done === "number" && typeof total === "number" && total > 0
      ? { file, done, total }
      : undefined;
  } catch {
    return undefined;
  }
}

/** A step as the progress shows it: how far it is since `before` (both in percent of all), and in words. */
export function shownStep(step: Step, before: number): { increment: number; message: string; percent: number } {
  const percent = Math.min(100, (100 * step.done) / step.total);
  return {
    increment: Math.max(0, percent - before),
    message: `${step.file}, ${size(step.done)} of ${size(step.total)}`,
    percent: Math.max(percent, before),
  };
}
