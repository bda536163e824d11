/** The walkthrough and the sample file that it runs on. */
import * as vscode from "vscode";

/** Open a fresh copy of the sample: a file like any other, in a folder of the extension's. */
export async function openSample(context: vscode.ExtensionContext): Promise<void> {
  const from = vscode.Uri.joinPath(context.extensionUri, "walkthrough", "inventory.py");
  const to = vscode.Uri.joinPath(context.globalStorageUri, "sample", "inventory.py");
  await vscode.workspace.fs.copy(from, to, { overwrite: true });
  const editor = await vscode.window.showTextDocument(to, { preview: false });
  const text = editor.document.getText();
  const place = editor.document.positionAt(text.indexOf("self.path =\n") + "self.path =".length);
  editor.selection = new vscode.Selection(place, place);
}

export async function openWalkthrough(context: vscode.ExtensionContext): Promise<void> {
  await vscode.commands.executeCommand("workbench.action.openWalkthrough", `${context.extension.id}#start`, false);
}
