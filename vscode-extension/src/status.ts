/** The status bar entry and the language status: what is going on, and why nothing was suggested. */
import * as vscode from "vscode";
import { COMMAND } from "./ids";
import type { PausedFiles } from "./pause";
import { detailOf, view, type Situation, type View } from "./pure/wording";
import type { Server } from "./server";

const SEVERITIES: Record<View["severity"], vscode.LanguageStatusSeverity> = {
  information: vscode.LanguageStatusSeverity.Information,
  warning: vscode.LanguageStatusSeverity.Warning,
  error: vscode.LanguageStatusSeverity.Error,
};

/** Show the server's state for as long as the extension runs. */
export function showStatus(context: vscode.ExtensionContext, server: Server, paused: PausedFiles): void {
  const bar = vscode.window.createStatusBarItem("diffill.bar", vscode.StatusBarAlignment.Right, 100);
  bar.name = "Diffill";
  bar.command = `${COMMAND}menu`;
  const item = vscode.languages.createLanguageStatusItem("diffill.status", [{ scheme: "file" }, { scheme: "untitled" }]);
  item.name = "Diffill";
  item.command = { command: `${COMMAND}menu`, title: "Menu" };

  const update = (): void => {
    const now = situation(server, paused);
    const shown = view(now);
    bar.text = `$(${shown.icon}) Diffill: ${shown.state}`;
    bar.tooltip = `Diffill: ${shown.lines.join("\n")}\nClick for all commands.`;
    bar.accessibilityInformation = { label: `Diffill: ${shown.lines.join(". ")}`, role: "button" };
    bar.backgroundColor =
      shown.severity === "error" ? new vscode.ThemeColor("statusBarItem.errorBackground") : undefined;
    item.text = `Diffill: ${shown.state}`;
    item.detail = detailOf(now);
    item.severity = SEVERITIES[shown.severity];
    item.busy = shown.busy;
  };
  update();
  bar.show();
  context.subscriptions.push(
    bar,
    item,
    server.onDidChange(update),
    paused.onDidChange(update),
    vscode.window.onDidChangeActiveTextEditor(update),
    vscode.workspace.onDidChangeConfiguration(update),
    vscode.workspace.onDidGrantWorkspaceTrust(update),
  );
}

function situation(server: Server, paused: PausedFiles): Situation {
  const document = vscode.window.activeTextEditor?.document;
  return {
    phase: server.phase,
    problem: server.problem,
    server: server.status,
    trusted: vscode.workspace.isTrusted,
    uri: document && server.uri(document.uri),
    pausedHere: document && paused.where(document),
  };
}
