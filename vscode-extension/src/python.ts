/** Finding the Python that runs Diffill. */
import { accessSync, constants, existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import * as vscode from "vscode";
import { SECTION } from "./ids";
import type { Log } from "./log";
import { run } from "./processes";
import { candidates, choose, onPath, PROBE_SCRIPT, readProbe, type Choice } from "./pure/locate";
import { asObject } from "./pure/values";

const PROBE_MS = 20_000;

/** The folder of Diffill's own environment, and the file that says that it is whole and of which version. */
export function ownFolder(context: vscode.ExtensionContext): { folder: string; python: string; mark: string } {
  const folder = join(context.globalStorageUri.fsPath, "environment");
  const python = process.platform === "win32" ? join(folder, "Scripts", "python.exe") : join(folder, "bin", "python");
  return { folder, python, mark: join(folder, "diffill-installed") };
}

/**
 * Look for a Python with Diffill in it, or one to install it with; with `anew` only for the latter. Nothing here needs
 * a network.
 */
export async function findPython(context: vscode.ExtensionContext, log: Log, anew = false): Promise<Choice> {
  const settings = vscode.workspace.getConfiguration(SECTION);
  const own = ownFolder(context);
  const windows = process.platform === "win32";
  const places = {
    setting: settings.get<string>("python", ""),
    own: existsSync(own.mark) ? own.python : undefined,
    extension: await fromPythonExtension(log),
    path: onPath(process.env["PATH"] ?? "", windows ? ["python", "py"] : ["python3", "python"], windows, isProgram),
    trusted: vscode.workspace.isTrusted,
  };
  const found = [];
  for (const candidate of candidates(places, homedir())) {
    const done = await run(candidate.path, ["-c", PROBE_SCRIPT], {
      cwd: context.extensionPath,
      timeoutMs: PROBE_MS,
    });
    const probe = done.code === 0 ? readProbe(done.output) : undefined;
    const has = probe === undefined ? "does not start" : `${probe.python.join(".")}, diffill ${probe.diffill ?? "none"}`;
    log.own.info(`python (${candidate.place}) ${candidate.path}: ${has}`);
    found.push([candidate, probe] as const);
    if (probe?.diffill != null && !anew) {
      break; // the first with Diffill is taken: no need to start others
    }
  }
  return choose(found, anew);
}

/** Whether a path is a file that may be run. */
function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** The interpreter that is selected in Microsoft's Python extension, where that is installed. */
async function fromPythonExtension(log: Log): Promise<string | undefined> {
  const extension = vscode.extensions.getExtension("ms-python.python");
  if (extension === undefined) {
    return undefined;
  }
  try {
    const api = asObject(extension.isActive ? extension.exports : await extension.activate());
    const environments = asObject(api?.["environments"]) as
      | { getActiveEnvironmentPath?: () => { path?: string }; resolveEnvironment?: (path: unknown) => Promise<unknown> }
      | undefined;
    const active = environments?.getActiveEnvironmentPath?.();
    const resolved = asObject(await environments?.resolveEnvironment?.(active));
    const uri = asObject(asObject(resolved?.["executable"])?.["uri"]);
    return typeof uri?.["fsPath"] === "string" ? uri["fsPath"] : active?.path;
  } catch {
    log.own.warn("the Python extension did not say which interpreter is selected");
    return undefined;
  }
}
