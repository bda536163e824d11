/** Wiring: what there is, and who knows whom. */
import * as vscode from "vscode";
import { COMMAND } from "./ids";
import { makeLog } from "./log";
import { PausedFiles, registerPause } from "./pause";
import { NEEDS_RESTART } from "./pure/settings";
import { messageOf } from "./pure/values";
import { Server } from "./server";
import { showStatus } from "./status";

let server: Server | undefined;

export function activate(context: vscode.ExtensionContext): void {
  const log = makeLog(context);
  const running = (server = new Server(context, log));
  const paused = new PausedFiles(context, running);
  const register = (name: string, run: (...args: unknown[]) => Promise<void>): void => {
    const guarded = async (...args: unknown[]): Promise<void> => {
      try {
        await run(...args);
      } catch (error) {
        if (!(error instanceof vscode.CancellationError)) {
          void vscode.window.showWarningMessage(`Diffill: ${messageOf(error)}`);
        }
      }
    };
    context.subscriptions.push(vscode.commands.registerCommand(COMMAND + name, guarded));
  };
  context.subscriptions.push(running, paused);

  showStatus(context, running, paused);
  registerPause(register, paused);
  register("restart", () => running.restartByHand());
  register("showLog", () => {
    log.own.show();
    return Promise.resolve();
  });

  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (NEEDS_RESTART.some((name) => change.affectsConfiguration(name))) {
        void running.restartByHand();
      }
    }),
    vscode.workspace.onDidGrantWorkspaceTrust(() => void running.restartByHand()),
  );
  void running.restart();
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}
