/** What a preview shows while the model works: settled text, and grey blocks where nothing is settled yet. */
import type { Span } from "./ranges";

export const BLOCK = "░";

/** A hole of a step: `settled` counts characters (code points) of `text`; what is not settled shows as one BLOCK a token. */
export interface FrameHole {
  text: string;
  settled: readonly (readonly [number, number])[];
}

/** Text with the parts of it that are still to come (UTF-16 offsets). */
export interface Shown {
  text: string;
  grey: Span[];
}

/**
 * A hole as text of at least `lines` lines: what is missing is filled up with lines of one block, so that the text
 * below does not jump when the model settles a line end. `lineEnd` is the file's.
 */
export function showHole(hole: FrameHole, lines: number, lineEnd: string): Shown {
  const grey: Span[] = [];
  let at = 0;
  let number = 0;
  for (const character of hole.text) {
    const settled = hole.settled.some(([start, end]) => start <= number && number < end);
    if (!settled) {
      const last = grey.at(-1);
      if (last?.end === at) {
        last.end += character.length;
      } else {
        grey.push({ start: at, end: at + character.length });
      }
    }
    at += character.length;
    number += 1;
  }
  let text = hole.text;
  for (let missing = lines - countLines(text); missing > 0; missing -= 1) {
    text += lineEnd + BLOCK;
    grey.push({ start: text.length - BLOCK.length, end: text.length });
  }
  return { text, grey };
}

/** How many lines a text has; the empty text has one. */
export function countLines(text: string): number {
  return text.split(/\r\n|\n|\r/).length;
}

/** A hole of which nothing is known: a grey block of the height and the width of what it replaces. */
export function showNothing(replaced: string, lineEnd: string): Shown {
  const text = replaced
    .split(/\r\n|\n|\r/)
    .map((line) => line.replace(/\S/gu, BLOCK))
    .join(lineEnd);
  const blocks = text === "" ? BLOCK : text;
  const grey = [...blocks.matchAll(/░+/g)].map((run) => ({ start: run.index, end: run.index + run[0].length }));
  return { text: blocks, grey };
}

/** A text with parts of it, disjoint and in order, replaced; the grey ranges are the whole text's. */
export function compose(text: string, parts: readonly (Span & { shown: Shown })[]): Shown {
  let out = "";
  let position = 0;
  const grey: Span[] = [];
  for (const part of parts) {
    out += text.slice(position, part.start);
    for (const span of part.shown.grey) {
      grey.push({ start: out.length + span.start, end: out.length + span.end });
    }
    out += part.shown.text;
    position = part.end;
  }
  return { text: out + text.slice(position), grey };
}

/** The share of a step's tokens that is settled, 0 to 100. A settled character counts as one token does. */
export function percentSettled(holes: readonly FrameHole[]): number {
  let settled = 0;
  let all = 0;
  for (const hole of holes) {
    all += Array.from(hole.text).length;
    settled += hole.settled.reduce((sum, [start, end]) => sum + end - start, 0);
  }
  return all === 0 ? 0 : Math.round((100 * settled) / all);
}
