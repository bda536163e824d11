"""Which licence a file has, and whether it may be trained on: SPDX expressions, headers and LICENSE files."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import ukkonen
from identify.vendor import licenses
from license_expression import ExpressionError, LicenseSymbol, LicenseWithExceptionSymbol, get_spdx_licensing

# "BSD" without a number is what package metadata of old says; the clauses differ, the permission does not.
ALLOWED = (
    *("MIT", "MIT-0", "MIT-CMU", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "0BSD"),
    *("Apache", "Apache-2.0", "ISC", "PSF-2.0", "Python-2.0", "CNRI-Python", "Unlicense", "HPND"),
    *("Zlib", "CC0-1.0", "BSL-1.0", "NCSA", "PostgreSQL", "UPL-1.0"),
)
LICENCE_FILES = re.compile(r"(?:licen[sc]es?|copying|unlicense)(?:[.-][\w.-]+)?", re.IGNORECASE)
NOT_TEXTS = frozenset({".py", ".pyi", ".js", ".html", ".json", ".yml", ".yaml", ".toml", ".header"})
HEADER = re.compile(r"SPDX-License-Identifier:\s*([^\n*#]+)")
PYPROJECT = re.compile(r"^license\s*=\s*(?:\"([^\"]+)\"|'([^']+)'|\{\s*text\s*=\s*\"([^\"]+)\")", re.MULTILINE)
HEADER_CHARACTERS = 3000
MAX_LICENCE_BYTES = 100_000
COPYRIGHT = re.compile(
    r"^\s*(?:copyright\b.*(?:\d{4}|\(c\)|©|\[).*|\(c\).*|©.*|all rights reserved\.?)$", re.IGNORECASE | re.MULTILINE
)
MOST_CHANGED = 0.05
APACHE_END = "END OF TERMS AND CONDITIONS"


@lru_cache(maxsize=4096)
def allowed(expression: str, licences: tuple[str, ...] = ALLOWED) -> bool:
    """Whether an SPDX expression permits use: all of an AND, one of an OR; exceptions only ever permit more."""
    names = {name.lower() for name in licences}

    def permits(node: object) -> bool:
        if isinstance(node, LicenseWithExceptionSymbol):
            return permits(node.license_symbol)
        if isinstance(node, LicenseSymbol):
            return node.key.lower() in names
        parts = [permits(part) for part in getattr(node, "args", ())]
        return bool(parts) and (any(parts) if type(node).__name__ == "OR" else all(parts))

    if expression.strip().lower() in names:
        return True
    try:
        parsed = get_spdx_licensing().parse(expression)
    except (ExpressionError, ValueError, AttributeError, TypeError):
        return False
    return parsed is not None and permits(parsed)


def in_header(text: str) -> str | None:
    """The SPDX expression that a file names in its first lines."""
    match = HEADER.search(text[:HEADER_CHARACTERS])
    return match[1].strip().rstrip("\"'/-> ").strip() if match else None


def normal(text: str) -> str:
    """A licence's text without its copyright lines, with single spaces."""
    return " ".join(COPYRIGHT.sub("", text).split())


@lru_cache(maxsize=1)
def known_texts() -> tuple[tuple[str, str], ...]:
    """(SPDX id, normal text) of the licences of choosealicense.com; Apache-2.0 also without its appendix."""
    texts = [(name, normal(text)) for name, text in licenses.LICENSES]
    apache = dict(texts)["Apache-2.0"]
    return (*texts, ("Apache-2.0", apache[: apache.index(APACHE_END) + len(APACHE_END)]))


def of_text(path: Path) -> str | None:
    """The SPDX id of the licence whose text a file holds, with fewer than 5 % of it changed; None for no known one."""
    try:
        if path.stat().st_size > MAX_LICENCE_BYTES:
            return None
        text = normal(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    limit = math.ceil(MOST_CHANGED * len(text))
    best, nearest = None, limit
    for name, known in known_texts():
        if abs(len(text) - len(known)) < nearest:  # an edit distance is never smaller than that
            distance = ukkonen.distance(text, known, nearest)
            if distance < nearest:
                best, nearest = name, distance
    return best


class Licences:
    """The licences of the files under `root`, a checkout or a folder: the nearest licence file above each one."""

    def __init__(self, root: Path):
        self.root = root
        self._known: dict[Path, str | None] = {}

    def of_folder(self, folder: Path) -> str | None:
        """The licence of a folder: its licence files (all must hold), its pyproject, or its parent's."""
        if folder not in self._known:
            own = self._own(folder)
            inside = folder != self.root and self.root in folder.parents
            self._known[folder] = own or (self.of_folder(folder.parent) if inside else None)
        return self._known[folder]

    def _own(self, folder: Path) -> str | None:
        try:
            texts = sorted(
                path
                for path in folder.iterdir()
                if LICENCE_FILES.fullmatch(path.name) and path.suffix.lower() not in NOT_TEXTS and path.is_file()
            )
        except OSError:
            return None
        if texts:
            found = [of_text(path) for path in texts]
            named = sorted({name for name in found if name})
            # two licence files are a choice in some projects and both hold in others: both must be allowed
            return " AND ".join(named) if named and all(found) else "LicenseRef-unknown"
        project = folder / "pyproject.toml"
        if project.is_file():
            match = PYPROJECT.search(project.read_text("utf-8", errors="replace"))
            if match:
                return match[1] or match[2] or match[3]
        return None


def decide(text: str, outer: str | None, licences: Collection[str]) -> tuple[str, bool]:
    """(licence, allowed) of a text whose surroundings say `outer`; its own header comes first."""
    licence = in_header(text) or outer or "unknown"
    return licence, allowed(licence, tuple(licences))
