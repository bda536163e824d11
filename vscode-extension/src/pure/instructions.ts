/** What a user asked for in words: remembered, offered again, and shown short. */

export const KEPT_INSTRUCTIONS = 8;

/** The instructions that are kept, newest first, with one more. */
export function remembered(kept: readonly string[], instruction: string): string[] {
  return [instruction, ...kept.filter((one) => one !== instruction)].slice(0, KEPT_INSTRUCTIONS);
}

/** Those of the kept ones that hold all words of what is typed so far, in any case, and are not the same. */
export function matching(kept: readonly string[], typed: string): string[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return kept.filter((one) => one !== typed.trim() && words.every((word) => one.toLowerCase().includes(word)));
}

/** What a memento held, whoever wrote it: its texts that say something. */
export function readKept(value: unknown): string[] {
  const list = Array.isArray(value) ? (value as unknown[]) : [];
  return list.filter((one): one is string => typeof one === "string" && one.trim() !== "").slice(0, KEPT_INSTRUCTIONS);
}

/** A text as the label of a list, where `$(name)` would be drawn as an icon. */
export function asLabel(text: string): string {
  return text.replace(/\$\(/g, "\\$(");
}
