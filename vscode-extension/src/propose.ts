/** Asking the server for a proposal: shown as progress that can be cancelled, step by step to whoever draws it. */
import * as vscode from "vscode";
import type { Place } from "./confidence";
import { percentSettled } from "./pure/frame";
import type { Edit, Proposal, Range, Task, Told } from "./pure/proposal";
import type { Server } from "./server";

let count = 0;

/** Ask; CancellationError where the user, or `outer`, ends it. */
export async function propose(
  server: Server,
  task: Task,
  title: string,
  outer: vscode.CancellationToken,
  draw: (told: Told) => void,
): Promise<Proposal> {
  const partialResultToken = `diffill-propose-${(count += 1)}`;
  return vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title, cancellable: true },
    async (progress, token) => {
      const cancel = new vscode.CancellationTokenSource();
      const listening = server.listen(partialResultToken, (value) => {
        const told = value as Told;
        if (cancel.token.isCancellationRequested) {
          return;
        }
        if (told.kind === "frame") {
          progress.report({ message: `step ${told.step}, ${percentSettled(told.holes)} % settled` });
        }
        draw(told);
      });
      const ends = [token, outer].map((one) =>
        one.onCancellationRequested(() => {
          cancel.cancel();
        }),
      );
      try {
        if (outer.isCancellationRequested) {
          cancel.cancel();
        }
        return await server.ask<Proposal>("diffill/propose", { ...task, partialResultToken }, cancel.token);
      } finally {
        ends.forEach((one) => void one.dispose());
        listening.dispose();
        cancel.dispose();
      }
    },
  );
}

/** A range of the protocol in a document. */
export function toRange(range: Range): vscode.Range {
  return new vscode.Range(range.start.line, range.start.character, range.end.line, range.end.character);
}

/** Where an edit goes, in offsets of the document as it is. */
export function placeOf(document: vscode.TextDocument, edit: Edit): Place {
  const range = toRange(edit.range);
  const start = document.offsetAt(range.start);
  return { start, replaced: document.offsetAt(range.end) - start, newText: edit.newText, tokens: edit.tokens };
}
