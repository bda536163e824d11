/** What the server proposes, and how much of the text is to change. */
import type { FrameHole } from "./frame";
import type { Token } from "./confidence";

export const FILL_HOLES = "diffill.fillHoles";
export const FUNCTION = "diffill.regenerateFunction";

export interface Position {
  line: number;
  character: number;
}

export interface Range {
  start: Position;
  end: Position;
}

/** The parameters of diffill/propose; a code action of the server carries them as its data. */
export interface Task {
  uri: string;
  version?: number;
  command?: string;
  range?: Range;
  strength?: number;
  seed?: number;
  instruction?: string; // what to do, for a model that follows instructions
}

export interface Edit {
  range: Range;
  newText: string;
  confidence: number;
  tokens: Token[];
}

export interface Proposal {
  uri: string;
  version: number;
  command: string;
  label: string;
  ranges: Range[];
  edits: Edit[];
  problem: string | null;
  end: string;
  steps: number;
  model: string;
  timingMs: { total: number };
}

export type Told =
  | { kind: "begin"; command: string; ranges: Range[] }
  | { kind: "frame"; step: number; steps: number; holes: (FrameHole & { range: Range })[] };

export const STRENGTHS = [
  { name: "light", value: 0.3, words: "changes about a third of the tokens: names, an expression" },
  { name: "medium", value: 0.6, words: "changes more than half of the tokens" },
  { name: "strong", value: 1, words: "writes all of it anew" },
] as const;

/** The name of a strength: that of the nearest one. */
export function strengthName(value: number): string {
  const nearest = STRENGTHS.reduce((a, b) => (Math.abs(b.value - value) < Math.abs(a.value - value) ? b : a));
  return nearest.name;
}

/** What a task does: its name in a preview, and the title of its progress. */
export function doing(task: Task): { name: string; title: string } {
  if (task.instruction !== undefined) {
    const name = `“${oneLine(task.instruction, 48)}”`;
    return { name, title: `Rewriting: ${name}` };
  }
  const name = strengthName(task.strength ?? 1);
  return { name, title: `Regenerating (${name})` };
}

/** The next strength up (1) or down (-1); undefined at the end. */
export function nextStrength(value: number, by: 1 | -1): number | undefined {
  const at = STRENGTHS.findIndex(({ name }) => name === strengthName(value));
  return STRENGTHS[at + by]?.value;
}

/** Why a proposal is doubtful, as short as a title; what has no short form is said as the server says it. */
export function problemWords(problem: string): string {
  return problem.endsWith("syntax_no_worse") ? "does not parse" : problem;
}

/** Why a proposal is doubtful, in few words each; `instructed`: it is the answer to an instruction, which ends by itself. */
export function doubts(proposal: Pick<Proposal, "problem" | "end">, instructed: boolean): string[] {
  return [
    ...(proposal.problem === null ? [] : [problemWords(proposal.problem)]),
    ...(instructed && proposal.end === "max_tokens" ? ["was cut off: it is as long as an answer may be"] : []),
  ];
}

/** A fill on one line, for a chip beside its hole. */
export function oneLine(text: string, most = 80): string {
  const lines = text
    .split(/\r\n|\n|\r/)
    .map((line) => line.trim())
    .filter((line) => line !== "");
  const joined = lines.join(" ⏎ ");
  const characters = Array.from(joined);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : joined;
}

/** Whether a value is a Task: code actions come back from the editor as anything. */
export function isTask(value: unknown): value is Task {
  return typeof value === "object" && value !== null && "uri" in value && typeof value.uri === "string";
}
