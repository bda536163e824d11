/** What was typed while everything started: the editor had nobody to ask about it, so it asks once somebody answers. */
import * as vscode from "vscode";
import { SECTION } from "./ids";

const TRIGGER = "editor.action.inlineSuggest.trigger";

/** Ask for a suggestion at the cursor of a file with changes, where suggestions come by themselves. */
export async function askWhereTyped(): Promise<void> {
  const editor = vscode.window.activeTextEditor;
  if (editor === undefined || !editor.document.isDirty || !editor.selection.isEmpty) {
    return;
  }
  const settings = vscode.workspace.getConfiguration(SECTION, editor.document);
  if (settings.get("enabled") === true && settings.get("automatic") === true) {
    await vscode.commands.executeCommand(TRIGGER);
  }
}
