/** The models that `diffill models list --json` names, as entries of a list to choose from. */
import { asObject } from "./values";

export interface Model {
  name: string;
  licence: string;
  sizeBytes: number | undefined;
  parameters: number | undefined;
  here: boolean; // on this machine
  backends: string[];
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
    fits(model, memoryBytes),
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
