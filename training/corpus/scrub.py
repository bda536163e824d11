"""Takes secrets and e-mail addresses out of a text. In Python only strings and comments are touched."""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator

from training.corpus.clean import parse

# name, pattern; group 1 is what is scrubbed where there is one. Prefixes as the providers document them.
SECRETS = (
    ("private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(.+?)-----END"),
    ("cloud key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}(?![\w-])"),
    ("access token", r"\bgh[pousr]_[A-Za-z0-9]{36,251}\b|\bgithub_pat_\w{60,}\b|\bglpat-[\w-]{20,}"),
    ("access token", r"\bxox[abeoprs]-[\w-]{10,}|\bnpm_[A-Za-z0-9]{36}\b|\bpypi-[\w-]{50,}|\bhf_[A-Za-z0-9]{34,}\b"),
    ("access token", r"\bsk-[\w-]{20,}|\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}|\bSG\.[\w-]{16,}\.[\w-]{16,}"),
    ("access token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    ("web hook", r"hooks\.slack\.com/services/([A-Z0-9]+/[A-Z0-9]+/\w+)"),
    ("password in a URL", r"\b[a-z][a-z0-9+.-]*://[^\s:/@'\"{}<>%$]+:([^\s:/@'\"{}<>%$]{3,})@"),
    (
        "assigned secret",
        r"(?i:password|passwd|pwd|secret|token|api_?key|access_?key|auth_?key|private_?key)\w*[\"']?\]?"
        r"\s*(?::\s*\w+\s*)?[:=]\s*[rb]?[\"']([A-Za-z0-9+/=_.~-]{16,})[\"']",
    ),
)
MAIL = re.compile(
    r"(?<![\w.+/-])[A-Za-z0-9][\w.+-]{0,63}@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24})(?![\w@-])"
)
NO_MAIL = re.compile(
    r"(?:^|\.)example\.\w+$|\.(?:test|example|invalid|local|localhost|py|png|jpe?g|svg|gif|js|css|html?|so|git)$",
    re.IGNORECASE,
)
IN_URL = re.compile(r"://[^\s/]*:$")  # user:password@host is no address
PLACEHOLDER = "name@example.com"
PATTERNS = tuple((name, re.compile(pattern, re.DOTALL)) for name, pattern in SECRETS)
ROUNDS = 4
FEW = 7  # a value of fewer distinct characters is a placeholder: xxxx, 0000-0000, or scrubbed before


def blank(value: str) -> str:
    """`value` with its letters and digits made x, X and 0: same length, same punctuation, nothing to learn."""
    return re.sub(r"[0-9]", "0", re.sub(r"[A-Z]", "X", re.sub(r"[a-z]", "x", value)))


def looks_random(value: str) -> bool:
    """Whether letters and digits mix as in a key, and not as in a name or a path."""
    return bool(
        len(set(value)) >= 10
        and re.search(r"[0-9].*[0-9].*[0-9]", value)
        and re.search(r"[A-Za-z].*[A-Za-z].*[A-Za-z]", value)
        and not re.search(r"[A-Za-z]{12}", value)
    )


def string_spans(text: str) -> list[tuple[int, int]]:
    """Half-open character ranges of Python's strings and comments; SyntaxError or TokenError without a parse."""
    lines = io.StringIO(text, newline="\n").readlines()  # split at line feeds only, as the tokenizer counts rows
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    wanted = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    spans = []
    for token in tokenize.generate_tokens(iter([*lines, ""]).__next__):
        if token.type in wanted:
            (first, left), (last, right) = token.start, token.end
            spans.append((starts[first - 1] + left, starts[last - 1] + right))
    return spans


def findings(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, replacement, what) of each secret and address; ranges may overlap."""
    for what, pattern in PATTERNS:
        for match in pattern.finditer(text):
            group = 1 if pattern.groups else 0
            value = match[group]
            if len(set(value)) < FEW and what != "password in a URL":
                continue
            if what == "assigned secret" and not looks_random(value):
                continue
            if value != blank(value):
                yield match.start(group), match.end(group), blank(value), what
    for match in MAIL.finditer(text):
        harmless = NO_MAIL.search(match[1]) or match[0].startswith("git@") or "noreply" in match[0]
        if not harmless and not IN_URL.search(text, max(0, match.start() - 100), match.start()):
            yield match.start(), match.end(), PLACEHOLDER, "e-mail address"


def parses(text: str) -> bool:
    """Whether `text` is a Python module."""
    return parse(text) is not None


def scrub(text: str, python: bool = True, check: Callable[[str], bool] = parses) -> tuple[str | None, Counter[str]]:
    """(`text` without its secrets and addresses, what was replaced how often).

    With `python`, which says that `text` parses, only strings and comments change, and the text still parses
    afterwards; where that is not possible the text is None.
    """
    counts: Counter[str] = Counter()
    scrubbed: str | None = text
    for _ in range(ROUNDS):  # what overlapped with another finding is found in the next round
        before = scrubbed
        assert before is not None
        scrubbed, found = scrub_once(before, python, check)
        counts += found
        if scrubbed is None or scrubbed == before:
            break
    return scrubbed, counts


def scrub_once(text: str, python: bool, check: Callable[[str], bool]) -> tuple[str | None, Counter[str]]:
    """`scrub` for findings that do not overlap."""
    found = sorted(findings(text))
    counts: Counter[str] = Counter()
    if not found:
        return text, counts
    spans = [(0, len(text))]
    if python:
        try:
            spans = string_spans(text)
        except (tokenize.TokenError, SyntaxError, IndentationError):
            return None, counts
    pieces, end_before, place = [], 0, 0
    for start, end, replacement, what in found:
        while place < len(spans) and spans[place][1] < end:
            place += 1
        if start < end_before or place == len(spans) or start < spans[place][0]:
            continue
        pieces += [text[end_before:start], replacement]
        end_before = end
        counts[what] += 1
    scrubbed = "".join([*pieces, text[end_before:]])
    if python and counts and not check(scrubbed):
        return None, counts
    return scrubbed, counts
