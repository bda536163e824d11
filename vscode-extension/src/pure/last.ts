/** The answer to diffill/lastFill, as far as the confidence view reads it. */
import type { Token } from "./confidence";
import type { Position, Range } from "./proposal";

export interface LastHole {
  range: Range;
  newText: string;
  newRange: Range;
  tokens: { range: Range; confidence: number; step: number }[];
}

export interface LastFill {
  uri: string;
  holes: LastHole[];
}

/** A hole's tokens with offsets in its text, made of their positions in the file. */
export function tokensOf(hole: LastHole): Token[] {
  const starts = lineStarts(hole.newText);
  const origin = hole.newRange.start;
  const offset = (position: Position): number => {
    const line = position.line - origin.line;
    return (starts[line] ?? hole.newText.length) + position.character - (line === 0 ? origin.character : 0);
  };
  return hole.tokens.map(({ range, confidence, step }) => ({
    start: offset(range.start),
    end: offset(range.end),
    confidence,
    step,
  }));
}

function lineStarts(text: string): number[] {
  return [0, ...[...text.matchAll(/\r\n|\n|\r/g)].map((end) => end.index + end[0].length)];
}
