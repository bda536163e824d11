/** Ranges of a text (UTF-16 offsets, half open) that stay where they belong while the text changes. */

export interface Span {
  start: number;
  end: number;
}

/** `removed` units at `start` were replaced by `inserted` units. */
export interface Change {
  start: number;
  removed: number;
  inserted: number;
}

/** The ranges after a change: moved where the change lies before them, gone where it touched their inside. */
export function shifted<T extends Span>(spans: readonly T[], change: Change): T[] {
  const end = change.start + change.removed;
  const by = change.inserted - change.removed;
  return spans.flatMap((span) => {
    if (span.end <= change.start && !(span.start === span.end && span.start === change.start)) {
      return [span];
    }
    if (span.start >= end) {
      return [{ ...span, start: span.start + by, end: span.end + by }];
    }
    return [];
  });
}

/** The spans after several changes of one event, as an editor tells them: all in offsets of the text before. */
export function shiftedByAll<T extends Span>(spans: readonly T[], changes: readonly Change[]): T[] {
  const lastFirst = [...changes].sort((a, b) => b.start - a.start);
  return lastFirst.reduce<T[]>((kept, change) => shifted(kept, change), [...spans]);
}
