/** How sure the model was, in four steps that differ in shape as well as in colour. */

export interface Token {
  start: number; // UTF-16 offset in the filled text
  end: number;
  confidence: number; // 0 to 1
  step: number; // of denoising, from 1
}

export const STEPS = [
  { name: "sure", least: 0.9, words: "at least 90 %", underline: "none" },
  { name: "likely", least: 0.7, words: "70 to 90 %", underline: "dotted" },
  { name: "unsure", least: 0.4, words: "40 to 70 %", underline: "dashed" },
  { name: "guess", least: 0, words: "less than 40 %", underline: "double" },
] as const;

/** Which of STEPS a confidence belongs to. What is no number counts as the lowest. */
export function stepOf(confidence: number): number {
  const found = STEPS.findIndex(({ least }) => confidence >= least);
  return found === -1 ? STEPS.length - 1 : found;
}

/** Whether a fill is at least likely: what is less sure is for a person to tick. */
export function isLikely(confidence: number): boolean {
  return stepOf(confidence) <= STEPS.findIndex(({ name }) => name === "likely");
}

/** A confidence as a person reads it: never 100 % for what is less, never 0 % for what is more. */
export function percent(confidence: number): string {
  const rounded = Math.round(confidence * 100);
  if (rounded === 100 && confidence < 1) {
    return "99 %";
  }
  return rounded === 0 && confidence > 0 ? "1 %" : `${rounded} %`;
}

/** What the hover says of a token. */
export function describe(token: Token): string {
  const step = STEPS[stepOf(token.confidence)] ?? STEPS[3];
  return `Diffill: ${percent(token.confidence)} sure (${step.name}), revealed at step ${token.step}`;
}

/** What is said when the view is switched on, for those who see no colours. */
export function summary(tokens: readonly Token[]): string {
  const counts = STEPS.map(({ name }, n) => {
    const count = tokens.filter((token) => stepOf(token.confidence) === n).length;
    return `${count} ${name}`;
  });
  return `${tokens.length} token${tokens.length === 1 ? "" : "s"}: ${counts.join(", ")}`;
}
