/** The confidence view: the tokens of the last fill of a file, tinted and underlined by how sure the model was. */
import * as vscode from "vscode";
import { describe, STEPS, stepOf, summary, type Token } from "./pure/confidence";
import { shiftedByAll } from "./pure/ranges";

/** A fill: where its hole began, how much text was in it, and what is known of its tokens. */
export interface Place {
  start: number;
  replaced: number;
  newText: string;
  tokens: readonly Token[];
}

export class ConfidenceView implements vscode.Disposable {
  private on = false;
  private readonly tokens = new Map<string, Token[]>(); // by document
  private readonly types: vscode.TextEditorDecorationType[];
  private readonly parts: { dispose(): unknown }[];

  constructor() {
    this.types = STEPS.map(({ name, underline }) =>
      vscode.window.createTextEditorDecorationType({
        backgroundColor: new vscode.ThemeColor(`diffill.confidence.${name}Background`),
        overviewRulerColor: new vscode.ThemeColor(`diffill.confidence.${name}`),
        overviewRulerLane: vscode.OverviewRulerLane.Right,
        borderColor: new vscode.ThemeColor(`diffill.confidence.${name}`),
        borderStyle: `none none ${underline} none`,
        borderWidth: underline === "double" ? "3px" : "2px",
        rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
      }),
    );
    this.parts = [
      ...this.types,
      vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        const key = document.uri.toString();
        const known = this.tokens.get(key);
        if (known && contentChanges.length > 0) {
          const changes = contentChanges.map((one) => ({
            start: one.rangeOffset,
            removed: one.rangeLength,
            inserted: one.text.length,
          }));
          this.tokens.set(key, shiftedByAll(known, changes));
          this.draw();
        }
      }),
      vscode.workspace.onDidCloseTextDocument((document) => this.tokens.delete(document.uri.toString())),
      vscode.window.onDidChangeVisibleTextEditors(() => {
        this.draw();
      }),
    ];
  }

  dispose(): void {
    this.parts.forEach((part) => part.dispose());
  }

  /**
   * Take the fills (in order, in offsets of the text before them) that a document has just got; `add` keeps those
   * before. A fill that was not taken is not in the text, and left out.
   */
  remember(document: vscode.TextDocument, places: readonly Place[], add = false): void {
    const text = document.getText();
    const key = document.uri.toString();
    const found = add ? [...(this.tokens.get(key) ?? [])] : [];
    let shift = 0;
    for (const { start, replaced, newText, tokens } of places) {
      const at = start + shift;
      if (text.startsWith(newText, at)) {
        found.push(...tokens.map((token) => ({ ...token, start: at + token.start, end: at + token.end })));
        shift += newText.length - replaced;
      }
    }
    this.tokens.set(key, found);
    this.draw();
  }

  /** Switch the view on or off, in all editors. */
  toggle(): void {
    this.on = !this.on;
    this.draw();
    if (!this.on) {
      void vscode.window.setStatusBarMessage("Diffill: confidence view off", 5000);
      return;
    }
    const document = vscode.window.activeTextEditor?.document;
    const tokens = (document && this.tokens.get(document.uri.toString())) ?? [];
    const words = tokens.length > 0 ? summary(tokens) : "nothing was filled in this file yet";
    void vscode.window.setStatusBarMessage(`Diffill: confidence view on: ${words}`, 10000);
  }

  private draw(): void {
    for (const editor of vscode.window.visibleTextEditors) {
      const tokens = this.on ? (this.tokens.get(editor.document.uri.toString()) ?? []) : [];
      this.types.forEach((type, step) => {
        editor.setDecorations(
          type,
          tokens
            .filter((token) => stepOf(token.confidence) === step)
            .map((token) => ({
              range: new vscode.Range(
                editor.document.positionAt(token.start),
                editor.document.positionAt(token.end),
              ),
              hoverMessage: describe(token),
            })),
        );
      });
    }
  }
}
