/** What the editor and the server say to each other where the extension has a word in it. */
import * as vscode from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import type { ConfidenceView } from "./confidence";
import { COMMAND } from "./ids";
import { asObject, type Json } from "./pure/values";
import { tokensOf, type LastFill } from "./pure/last";
import type { Server } from "./server";

export const RUN_TASK = `${COMMAND}runTask`;
const ACCEPTED = "diffill.accepted";

export function makeMiddleware(server: Server, confidence: ConfidenceView): Middleware {
  return {
    // Which suggestions were seen can only be inferred: what the editor still wanted when it came.
    provideInlineCompletionItems: async (document, position, context, token, next) => {
      const items = await next(document, position, context, token);
      if (items && !token.isCancellationRequested && (Array.isArray(items) ? items : items.items).length > 0) {
        server.tell("diffill/didShow", {});
      }
      return items;
    },
    // The server's actions end in our previews instead of an edit.
    provideCodeActions: async (document, range, context, token, next) => {
      const actions = await next(document, range, context, token);
      return actions?.map((action) => (action instanceof vscode.CodeAction ? routed(action) : action));
    },
    resolveCodeAction: (action, token, next) => (action.command?.command === RUN_TASK ? action : next(action, token)),
    executeCommand: async (command, args, next) => {
      const answer: unknown = await next(command, args);
      if (command === ACCEPTED) {
        await takeAccepted(server, confidence);
      }
      return answer;
    },
  };
}

function routed(action: vscode.CodeAction): vscode.CodeAction {
  const data: Json | undefined = asObject((action as { data?: unknown }).data);
  if (data && typeof data["command"] === "string" && typeof data["uri"] === "string") {
    action.command = { command: RUN_TASK, title: action.title, arguments: [data] };
  }
  return action;
}

/** Keep what is known of the suggestion that was just accepted. */
async function takeAccepted(server: Server, confidence: ConfidenceView): Promise<void> {
  const last = await server.ask<LastFill | null>("diffill/lastFill", {});
  const document = vscode.workspace.textDocuments.find((one) => server.uri(one.uri) === last?.uri);
  const hole = last?.holes[0];
  if (document && hole) {
    const start = document.offsetAt(new vscode.Position(hole.range.start.line, hole.range.start.character));
    confidence.remember(document, [{ start, replaced: 0, newText: hole.newText, tokens: tokensOf(hole) }]);
  }
}
