/** Pausing: everywhere and for a language by the settings, for a file by a list that this workspace remembers. */
import * as vscode from "vscode";
import { COMMAND, SECTION } from "./ids";
import { levelOf, toggled, type Level } from "./pure/settings";
import type { Server } from "./server";

const KEY = "pausedFiles";
const TARGETS: Record<Level, vscode.ConfigurationTarget> = {
  global: vscode.ConfigurationTarget.Global,
  workspace: vscode.ConfigurationTarget.Workspace,
  folder: vscode.ConfigurationTarget.WorkspaceFolder,
};

/** Write a setting where its value now comes from. */
export async function write(name: string, value: unknown, scope?: vscode.Uri): Promise<void> {
  const settings = vscode.workspace.getConfiguration(SECTION, scope);
  await settings.update(name, value, TARGETS[levelOf(settings.inspect(name))]);
}

/** The files of this workspace that are paused; the server is told of them whenever it starts and they change. */
export class PausedFiles implements vscode.Disposable {
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChange = this.changed.event;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly server: Server,
  ) {
    server.onDidStart(() => {
      this.tell();
    });
  }

  dispose(): void {
    this.changed.dispose();
  }

  /** By what a document is paused, apart from everything being paused. */
  where(document: vscode.TextDocument): "language" | "file" | undefined {
    if (this.files.includes(this.server.uri(document.uri))) {
      return "file";
    }
    const languages = vscode.workspace.getConfiguration(SECTION).get<string[]>("disabledLanguages", []);
    return languages.includes(document.languageId) ? "language" : undefined;
  }

  async toggleFile(document: vscode.TextDocument): Promise<boolean> {
    const files = toggled(this.files, this.server.uri(document.uri));
    await this.context.workspaceState.update(KEY, files);
    this.tell();
    this.changed.fire();
    return this.where(document) === "file";
  }

  private get files(): string[] {
    return this.context.workspaceState.get<string[]>(KEY, []);
  }

  private tell(): void {
    this.server.tell("diffill/pauseFiles", { uris: this.files });
  }
}

/** Register what pauses and resumes. */
export function registerPause(register: (name: string, run: () => Promise<void>) => void, paused: PausedFiles): void {
  const here = (): vscode.TextDocument | undefined => {
    const document = vscode.window.activeTextEditor?.document;
    if (document === undefined) {
      void vscode.window.showInformationMessage("Diffill: open a file first.");
    }
    return document;
  };
  register("pause", () => write("enabled", false));
  register("resume", async () => {
    await write("enabled", true);
    const document = vscode.window.activeTextEditor?.document;
    const where = document && paused.where(document);
    if (document && where) {
      const still = where === "file" ? "this file" : document.languageId;
      const go = `Resume for ${still}`;
      const picked = await vscode.window.showInformationMessage(`Diffill is on, but still paused for ${still}.`, go);
      if (picked === go) {
        await vscode.commands.executeCommand(`${COMMAND}${where === "file" ? "toggleFile" : "toggleLanguage"}`);
      }
    }
  });
  register("toggleLanguage", async () => {
    const document = here();
    if (document !== undefined) {
      const languages = vscode.workspace.getConfiguration(SECTION).get<string[]>("disabledLanguages", []);
      const changed = toggled(languages, document.languageId);
      await write("disabledLanguages", changed);
      const done = changed.includes(document.languageId) ? "paused" : "on again";
      void vscode.window.setStatusBarMessage(`Diffill is ${done} for ${document.languageId}`, 5000);
    }
  });
  register("toggleFile", async () => {
    const document = here();
    if (document !== undefined) {
      const done = (await paused.toggleFile(document)) ? "paused" : "on again";
      void vscode.window.setStatusBarMessage(`Diffill is ${done} for this file`, 5000);
    }
  });
}
