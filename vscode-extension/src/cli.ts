/** The diffill command line, run with the Python that was found. */
import * as vscode from "vscode";
import { run, type Done } from "./processes";
import type { Server } from "./server";

type Bar = vscode.Progress<{ message?: string; increment?: number }>;

/**
 * Run `diffill ARGS…` under a progress bar that can be cancelled; CancellationError if it was.
 * `onLine` gets every line of output, and the bar.
 */
export async function diffill(
  context: vscode.ExtensionContext,
  server: Server,
  args: readonly string[],
  title: string,
  onLine?: (line: string, bar: Bar) => void,
): Promise<Done> {
  const { python } = server;
  if (python === undefined) {
    throw new Error(server.problem ?? "Diffill is not installed in any Python that was found.");
  }
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  return vscode.window.withProgress(options, async (bar, token) => {
    const done = await run(python, ["-m", "model_runtime", ...args], {
      cwd: context.extensionPath,
      token,
      onLine: (line) => onLine?.(line, bar),
    });
    if (done.cancelled) {
      throw new vscode.CancellationError();
    }
    return done;
  });
}

/** The last line of what a program complained about. */
export function complaint(done: Done): string {
  return done.errors.trim().split(/\r?\n/).at(-1) ?? "no reason was given";
}
