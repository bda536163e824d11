/** What the settings say. */

/** Settings whose change means another server process; the server itself is told of all others. */
export const NEEDS_RESTART = ["diffill.python", "diffill.server"] as const;

/** The language server's command from its setting; undefined where there is none or it is no list of words. */
export function command(given: unknown): string[] | undefined {
  if (!Array.isArray(given) || given.length === 0 || !given.every((word) => typeof word === "string" && word !== "")) {
    return undefined;
  }
  return given as string[];
}

export type Level = "global" | "workspace" | "folder";

export interface Inspected<T> {
  globalValue?: T | undefined;
  workspaceValue?: T | undefined;
  workspaceFolderValue?: T | undefined;
}

/** Where to write a setting so that the new value holds: at the innermost level that sets it now. */
export function levelOf(inspected: Inspected<unknown> | undefined): Level {
  if (inspected?.workspaceFolderValue !== undefined) {
    return "folder";
  }
  return inspected?.workspaceValue !== undefined ? "workspace" : "global";
}

/** A list with a value taken out, or added where it was not. */
export function toggled(list: readonly string[], value: string): string[] {
  return list.includes(value) ? list.filter((one) => one !== value) : [...list, value];
}
