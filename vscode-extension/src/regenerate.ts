/** Writing code anew: the commands, each of which ends in a preview. */
import * as vscode from "vscode";
import type { Preview } from "./preview";
import { FUNCTION, isTask, STRENGTHS, type Task } from "./pure/proposal";
import type { Server } from "./server";

export type Register = (name: string, run: (...args: unknown[]) => Promise<void>) => void;

export function registerRegenerate(register: Register, server: Server, preview: Preview): void {
  const run = async (more: Partial<Task>): Promise<void> => {
    const task = selectedTask(server);
    const document = vscode.window.activeTextEditor?.document;
    if (document) {
      await preview.show(document, { ...task, ...more });
    }
  };
  register("regenerate", async () => {
    const selected = vscode.window.activeTextEditor?.selection.isEmpty === false;
    const picked = await vscode.window.showQuickPick(
      STRENGTHS.map(({ name, words, value }) => ({ label: `$(sparkle) ${name}`, description: words, value })),
      { title: `Regenerate the ${selected ? "selection" : "function or block at the cursor"}`, placeHolder: "How much?" },
    );
    if (picked) {
      await run({ strength: picked.value });
    }
  });
  register("regenerateLight", () => run({ strength: STRENGTHS[0].value }));
  register("regenerateMedium", () => run({ strength: STRENGTHS[1].value }));
  register("regenerateStrong", () => run({ strength: STRENGTHS[2].value }));
  register("regenerateFunction", () => run({ command: FUNCTION, strength: 1 }));
  register("preview.accept", () => preview.accept());
  register("preview.tryAgain", () => preview.again());
  register("preview.stronger", () => preview.change(1));
  register("preview.weaker", () => preview.change(-1));
  register("preview.discard", () => preview.discard());
}

/** The task that is about the selection, or about the function or block at the cursor. */
export function selectedTask(server: Server): Task {
  const editor = vscode.window.activeTextEditor;
  if (!editor) {
    throw new Error("Open a file and put the cursor where code is to be written anew.");
  }
  const { start, end } = editor.selection;
  return { ...server.documentId(editor.document), range: { start: plain(start), end: plain(end) } };
}

/** Run what a code action of the server stands for, with our preview. */
export async function runTask(preview: Preview, task: unknown): Promise<void> {
  const document = vscode.window.activeTextEditor?.document;
  if (!document || !isTask(task)) {
    throw new Error("The file of this action is no longer open.");
  }
  await preview.show(document, task);
}

function plain(position: vscode.Position): { line: number; character: number } {
  return { line: position.line, character: position.character };
}
