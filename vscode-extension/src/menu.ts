/** The list of commands behind the status bar entry, those first that fit the state. */
import * as vscode from "vscode";
import { COMMAND } from "./ids";
import type { PausedFiles } from "./pause";
import { hostOf } from "./pure/remote";
import { counted, type Counters } from "./pure/wording";
import type { Server } from "./server";

interface Item extends vscode.QuickPickItem {
  command?: string;
}

export async function showMenu(server: Server, paused: PausedFiles): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  const item = (label: string, command: string, description = ""): Item => ({ label, command, description });
  const running = server.phase === "running";
  const items: Item[] = [
    ...(server.phase === "missing" ? [item("$(cloud-download) Install Diffill", "install")] : []),
    ...(running && server.status?.state === "paused" ? [item("$(play) Resume", "resume")] : []),
    ...(running && server.status?.state !== "paused" ? [item("$(debug-pause) Pause", "pause")] : []),
    ...(document ? hereItems(document, paused.where(document), item) : []),
    ...(running ? [item("$(sparkle) Regenerate…", "regenerate")] : []),
    ...(running && server.status?.instructions !== false ? [item("$(edit) Rewrite by instruction…", "instruct")] : []),
    ...(running ? [item("$(symbol-snippet) Fill holes", "fillHoles")] : []),
    item("$(symbol-color) Toggle confidence view", "toggleConfidence"),
    ...(server.status?.server ? [] : [item("$(package) Select model…", "selectModel")]),
    ...(running ? [serverItem(server, item)] : []),
    item("$(output) Show log", "showLog"),
    item("$(debug-restart) Restart", "restart"),
    item("$(pulse) Copy doctor report", "doctor"),
    item("$(mortar-board) Walkthrough", "openWalkthrough"),
  ];
  let title = "Diffill";
  if (running) {
    const { counters } = await server.ask<{ counters: Counters }>("diffill/status", {});
    title = `Diffill: ${counted(counters)}`;
  }
  const picked = await vscode.window.showQuickPick(items, { title });
  if (picked?.command !== undefined) {
    await vscode.commands.executeCommand(COMMAND + picked.command);
  }
}

function serverItem(server: Server, item: (label: string, command: string, description?: string) => Item): Item {
  const address = server.status?.server;
  return address
    ? item("$(device-desktop) Use this machine's model", "disconnect", `instead of ${hostOf(address)}`)
    : item("$(cloud) Connect to a server…", "connect");
}

function hereItems(
  document: vscode.TextDocument,
  where: "language" | "file" | undefined,
  item: (label: string, command: string) => Item,
): Item[] {
  const verb = (off: boolean): string => (off ? "$(play) Resume" : "$(debug-pause) Pause");
  return [
    item(`${verb(where === "language")} for ${document.languageId}`, "toggleLanguage"),
    item(`${verb(where === "file")} for this file`, "toggleFile"),
  ];
}
