/** Installing Diffill into an environment of the extension's own. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as vscode from "vscode";
import { SECTION } from "./ids";
import type { Log } from "./log";
import { run } from "./processes";
import { pipArguments, pipProblem, pipProgress } from "./pure/pip";
import { ownFolder } from "./python";

/**
 * Make the environment with `base`, a Python, and install Diffill in it; shown as progress that can be cancelled.
 * True if it is whole; what is not is removed again. A wheel folder in the settings makes it work without a network.
 */
export async function install(context: vscode.ExtensionContext, log: Log, base: string): Promise<boolean> {
  const { folder, python, mark } = ownFolder(context);
  const wheelFolder = vscode.workspace.getConfiguration(SECTION).get<string>("wheelFolder", "").trim();
  const args = pipArguments(shippedWheel(context), wheelFolder);
  const remove = (): void => {
    rmSync(folder, { recursive: true, force: true });
  };
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title: "Installing Diffill", cancellable: true },
    async (progress, token) => {
      mkdirSync(context.globalStorageUri.fsPath, { recursive: true });
      remove();
      const cwd = context.extensionPath;
      const steps: [string, string[], string][] = [
        [base, ["-m", "venv", folder], "making an environment"],
        [python, ["-m", "pip", ...args], "downloading"],
      ];
      for (const [command, words, title] of steps) {
        progress.report({ message: title });
        const done = await run(command, words, {
          cwd,
          token,
          onLine: (line) => {
            const told = pipProgress(line);
            if (told !== undefined) {
              log.own.info(told);
              progress.report({ message: told });
            }
          },
        });
        if (done.code !== 0 || token.isCancellationRequested) {
          remove();
          if (token.isCancellationRequested) {
            log.own.info("the installation was cancelled");
            return false;
          }
          log.own.error(`${title} failed (${done.code ?? "not started"}):\n${done.errors.trim()}`);
          throw new Error(`Diffill could not be installed: ${pipProblem(done.errors)}`);
        }
      }
      writeFileSync(mark, `${(context.extension.packageJSON as { version: string }).version}\n`);
      log.own.info(`installed in ${folder}`);
      return true;
    },
  );
}

/** The wheel of Diffill that came with the extension, if one did. */
function shippedWheel(context: vscode.ExtensionContext): string | undefined {
  const folder = join(context.extensionPath, "wheels");
  try {
    const name = readdirSync(folder).find((file) => /^diffill-.*\.whl$/.test(file));
    return name === undefined ? undefined : join(folder, name);
  } catch {
    return undefined;
  }
}
