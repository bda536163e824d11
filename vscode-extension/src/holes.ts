/** Filling the holes of a file: chips at the holes while the model works, then what it proposes for each. */
import * as vscode from "vscode";
import type { ConfidenceView, Place } from "./confidence";
import { COMMAND, HOLES_VISIBLE } from "./ids";
import { placeOf, propose, toRange } from "./propose";
import { isLikely, percent } from "./pure/confidence";
import { percentSettled } from "./pure/frame";
import { FILL_HOLES, oneLine, type Proposal, type Task, type Told } from "./pure/proposal";
import { shiftedByAll, type Span } from "./pure/ranges";
import type { Server } from "./server";

interface Hole extends Span {
  newText: string | undefined; // undefined while the model works
  confidence: number;
  settled: number; // percent
  tokens: Place["tokens"];
}

interface Session {
  document: vscode.TextDocument;
  holes: Hole[];
  asked: number;
  cancel: vscode.CancellationTokenSource;
}

export class Holes implements vscode.Disposable, vscode.CodeLensProvider {
  private session: Session | undefined;
  private last: { document: vscode.TextDocument; version: number; seed: number } | undefined;
  private readonly changed = new vscode.EventEmitter<void>();
  readonly onDidChangeCodeLenses = this.changed.event;
  private readonly chip = vscode.window.createTextEditorDecorationType({
    border: "1px dashed",
    borderColor: new vscode.ThemeColor("editorInfo.foreground"),
    after: {
      margin: "0 0 0 1em",
      color: new vscode.ThemeColor("badge.foreground"),
      backgroundColor: new vscode.ThemeColor("badge.background"),
    },
  });
  private readonly parts: { dispose(): unknown }[];

  constructor(
    private readonly server: Server,
    private readonly confidence: ConfidenceView,
  ) {
    this.parts = [
      this.changed,
      this.chip,
      vscode.languages.registerCodeLensProvider([{ scheme: "file" }, { scheme: "untitled" }], this),
      vscode.workspace.onDidChangeTextDocument((event) => {
        this.follow(event);
      }),
      vscode.workspace.onDidCloseTextDocument((document) => {
        if (document === this.session?.document) {
          this.discard();
        }
      }),
      vscode.window.onDidChangeVisibleTextEditors(() => {
        this.draw();
      }),
    ];
  }

  dispose(): void {
    this.session?.cancel.cancel();
    this.parts.forEach((part) => part.dispose());
  }

  /** Fill the holes of a file, or of the task's range, in one go. Asked again for the same text it is another draw. */
  async fill(document: vscode.TextDocument, more: Partial<Task> = {}): Promise<void> {
    this.discard();
    const session: Session = { document, holes: [], asked: 0, cancel: new vscode.CancellationTokenSource() };
    this.session = session;
    const version = document.version;
    const same = this.last?.document === document && this.last.version === version;
    const seed = same && this.last ? this.last.seed + 1 : 0;
    this.last = { document, version, seed };
    const task = { ...this.server.documentId(document), seed, ...more, command: FILL_HOLES };
    const draw = (told: Told): void => {
      if (session === this.session && document.version === version) {
        this.progress(session, told);
      }
    };
    try {
      const proposal = await propose(this.server, task, "Filling holes", session.cancel.token, draw);
      if (session === this.session) {
        this.finish(session, proposal);
      }
    } catch (error) {
      if (session === this.session) {
        this.discard();
      }
      throw error;
    }
  }

  /** Take one proposal: the one with this number, or at the cursor, or the next one after it. */
  async accept(number?: number): Promise<void> {
    const { session } = this;
    const editor = vscode.window.visibleTextEditors.find((one) => one.document === session?.document);
    const at = editor?.document.offsetAt(editor.selection.active) ?? 0;
    const ready = (session?.holes ?? []).filter((hole) => hole.newText !== undefined);
    const line = editor?.selection.active.line;
    const hole =
      (number === undefined ? undefined : session?.holes[number]) ??
      ready.find((one) => one.start <= at && at <= one.end) ??
      ready.find((one) => session?.document.positionAt(one.start).line === line) ??
      ready.find((one) => one.start >= at) ??
      ready[0];
    if (session && hole?.newText !== undefined) {
      await this.apply(session, [hole], false);
    }
  }

  /** Take all proposals: several through the Refactor Preview, where each can be ticked. */
  async acceptAll(): Promise<void> {
    const { session } = this;
    const ready = session?.holes.filter((hole) => hole.newText !== undefined) ?? [];
    if (session && ready.length > 0) {
      await this.apply(session, ready, ready.length > 1);
    }
  }

  discard(): void {
    this.session?.cancel.cancel();
    this.session = undefined;
    this.draw();
  }

  provideCodeLenses(document: vscode.TextDocument): vscode.CodeLens[] {
    const { session } = this;
    if (session?.document !== document) {
      return [];
    }
    return session.holes.flatMap((hole, number) => {
      if (hole.newText === undefined) {
        return [];
      }
      const place = document.positionAt(hole.start);
      const range = new vscode.Range(place, place);
      const title = `$(check) Accept hole ${number + 1} of ${session.holes.length} (${percent(hole.confidence)} sure)`;
      const lens = (name: string, text: string, ...args: unknown[]): vscode.CodeLens =>
        new vscode.CodeLens(range, { command: COMMAND + name, title: text, arguments: args });
      const all = session.holes.length > 1 ? [lens("acceptAllHoles", "$(check-all) Accept all")] : [];
      return [lens("acceptHole", title, number), ...all, lens("discardHoles", "$(close) Discard")];
    });
  }

  private async apply(session: Session, holes: Hole[], confirm: boolean): Promise<void> {
    const { document } = session;
    const edit = new vscode.WorkspaceEdit();
    for (const hole of holes) {
      const range = new vscode.Range(document.positionAt(hole.start), document.positionAt(hole.end));
      const description = `line ${range.start.line + 1}, ${percent(hole.confidence)} sure`;
      // The Refactor Preview leaves what needs confirmation unticked, and shows the rest ticked.
      const metadata = { needsConfirmation: !isLikely(hole.confidence), label: "Filled by Diffill", description };
      if (confirm) {
        edit.replace(document.uri, range, hole.newText ?? "", metadata);
      } else {
        edit.replace(document.uri, range, hole.newText ?? "");
      }
    }
    const places = holes.map((hole) => ({
      start: hole.start,
      replaced: hole.end - hole.start,
      newText: hole.newText ?? "",
      tokens: hole.tokens,
    }));
    // What is changed is no hole any more: `follow` takes it off the list.
    if (await vscode.workspace.applyEdit(edit, { isRefactoring: true })) {
      this.confidence.remember(document, places, true);
    }
  }

  private progress(session: Session, told: Told): void {
    const { document } = session;
    if (told.kind === "begin") {
      session.asked = told.ranges.length;
      session.holes = told.ranges.map((one) => {
        const range = toRange(one);
        const [start, end] = [document.offsetAt(range.start), document.offsetAt(range.end)];
        return { start, end, newText: undefined, confidence: 0, settled: 0, tokens: [] };
      });
    } else {
      told.holes.forEach((one, number) => {
        const hole = session.holes[number];
        if (hole) {
          hole.settled = percentSettled([one]);
        }
      });
    }
    this.draw();
  }

  private finish(session: Session, proposal: Proposal): void {
    const { document } = session;
    if (document.version !== proposal.version) {
      this.discard();
      throw new Error("The file has changed meanwhile; nothing was filled.");
    }
    session.holes = proposal.edits.map((edit) => {
      const { start, replaced, newText, tokens } = placeOf(document, edit);
      return { start, end: start + replaced, newText, confidence: edit.confidence, settled: 100, tokens };
    });
    this.draw();
    const [got, all] = [proposal.edits.length, proposal.ranges.length];
    const rest = got < all ? `; for ${all - got} the model had nothing that fits` : "";
    void vscode.window.setStatusBarMessage(`Diffill: ${got} of ${all} hole${all === 1 ? "" : "s"} can be filled${rest}`, 10000);
  }

  /** Keep the holes where they belong while the file is edited; one that is edited itself is given up. */
  private follow(event: vscode.TextDocumentChangeEvent): void {
    const { session } = this;
    if (session?.document !== event.document || event.contentChanges.length === 0) {
      return;
    }
    const changes = event.contentChanges.map((one) => ({
      start: one.rangeOffset,
      removed: one.rangeLength,
      inserted: one.text.length,
    }));
    session.holes = shiftedByAll(session.holes, changes);
    if (session.holes.length === 0) {
      this.discard();
    } else {
      this.draw();
    }
  }

  private draw(): void {
    const { session } = this;
    const ready = session?.holes.some((hole) => hole.newText !== undefined) === true;
    void vscode.commands.executeCommand("setContext", HOLES_VISIBLE, ready);
    this.changed.fire();
    for (const editor of vscode.window.visibleTextEditors) {
      const holes = editor.document === session?.document ? session.holes : [];
      editor.setDecorations(
        this.chip,
        holes.map((hole) => decoration(editor.document, hole)),
      );
    }
  }
}

/** A hole's chip: how far it is, or what would stand there. */
function decoration(document: vscode.TextDocument, hole: Hole): vscode.DecorationOptions {
  const range = new vscode.Range(document.positionAt(hole.start), document.positionAt(hole.end));
  if (hole.newText === undefined) {
    const contentText = ` filling, ${hole.settled} % settled `;
    return { range, renderOptions: { after: { contentText } } };
  }
  const contentText = ` → ${oneLine(hole.newText)} (${percent(hole.confidence)} sure) `;
  const hoverMessage = new vscode.MarkdownString("Diffill would write:\n");
  hoverMessage.appendCodeblock(hole.newText, document.languageId);
  return { range, hoverMessage, renderOptions: { after: { contentText } } };
}

/** Register the commands. */
export function registerHoles(
  register: (name: string, run: (...args: unknown[]) => Promise<void>) => void,
  holes: Holes,
): void {
  register("fillHoles", async () => {
    const editor = vscode.window.activeTextEditor;
    if (!editor) {
      throw new Error("Open a file with holes first: <FILL>, or a function with ... as its body.");
    }
    await holes.fill(editor.document);
  });
  register("acceptHole", (number) => holes.accept(typeof number === "number" ? number : undefined));
  register("acceptAllHoles", () => holes.acceptAll());
  register("discardHoles", () => {
    holes.discard();
    return Promise.resolve();
  });
}
