"""Finds the Python sources already on disk: CPython's library and permissively licensed distributions."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

HELD_OUT = ("more-itertools", "toolz", "boltons")
HELD_OUT_PACKAGES = frozenset(name.replace("-", "_") for name in HELD_OUT)
PROJECT = "diffill"
STANDARD_LIBRARY = "cpython"
STANDARD_LIBRARY_LICENCE = "Python-2.0"

SKIPPED_FOLDERS = frozenset(
    {"_vendor", "vendor", "vendored", "_vendored", "third_party", "thirdparty", "extern", "_extern"}
    | {"externals", "external", "site-packages", "dist-packages", "__pycache__", "node_modules"}
)
TEST_FOLDERS = frozenset({"test", "tests", "idle_test", "_test", "_tests"})

# Compared in lower case. Every part of an "AND" must stand here, one part of an "OR" is enough.
ALLOWED_LICENCES = frozenset(
    {"mit", "mit-0", "mit-cmu", "bsd", "bsd-2-clause", "bsd-3-clause", "0bsd", "apache", "apache-2.0", "isc"}
    | {"psf-2.0", "python-2.0", "unlicense", "hpnd", "zlib", "cnri-python", "cc0-1.0", "bsl-1.0"}
)
CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "zlib/libpng License": "Zlib",
    "CNRI Python License": "CNRI-Python",
}
# The free text of the old "License" field, first line only.
LICENCE_PHRASES = (
    (re.compile(r"^apache(?: software)?(?:[ -]licen[sc]e)?(?:,? (?:version )?2(?:\.0)?)?(?: licen[sc]e)?$"),
     "Apache-2.0"),
    (re.compile(r"^(?:the )?mit(?: licen[sc]e)?$"), "MIT"),
    (re.compile(r"^(?:the |new |modified )?(?:bsd[ -]3[ -]clause|3[ -]clause bsd)(?: licen[sc]e)?$"),
     "BSD-3-Clause"),
    (re.compile(r"^(?:bsd[ -]2[ -]clause|2[ -]clause bsd)(?: licen[sc]e)?$"), "BSD-2-Clause"),
    (re.compile(r"^(?:the )?bsd(?: licen[sc]e)?$"), "BSD"),
    (re.compile(r"^isc(?: licen[sc]e)?$"), "ISC"),
    (re.compile(r"^(?:psf|python software foundation)(?: licen[sc]e)?$"), "PSF-2.0"),
)  # fmt: skip


@dataclass(frozen=True)
class SourceFile:
    """One file to read. `path` is relative to the package root; `location` never reaches the pack."""

    source: str
    path: str
    kind: str  # "code" or "tests"
    licence: str
    location: Path


def licence_allowed(expression: str) -> bool:
    """Whether an SPDX expression permits use here. With parentheses every named licence must be allowed."""
    plain = re.sub(r"\s+WITH\s+[\w.-]+", "", expression, flags=re.IGNORECASE)
    nested = "(" in plain
    plain = plain.replace("(", " ").replace(")", " ")
    alternatives = [
        [part.strip() in ALLOWED_LICENCES for part in re.split(r"\s+and\s+", choice)]
        for choice in re.split(r"\s+or\s+", plain.lower())
    ]
    if nested:
        return all(all(choice) for choice in alternatives)
    return any(all(choice) for choice in alternatives)


def licence_of(distribution: metadata.Distribution) -> tuple[str, bool]:
    """(licence, allowed) from a distribution's metadata: expression, then classifiers, then free text."""
    fields = distribution.metadata
    if "License-Expression" in fields:
        return fields["License-Expression"], licence_allowed(fields["License-Expression"])
    prefix = "License :: "
    named = [
        line[len(prefix) :].removeprefix("OSI Approved :: ")
        for line in fields.get_all("Classifier") or []
        if line.startswith(prefix) and line != "License :: OSI Approved"
    ]
    if named:
        known = [CLASSIFIERS.get(name) for name in named]
        return " AND ".join(k or n for k, n in zip(known, named, strict=True)), all(known)
    lines = "\n".join(fields.get_all("License") or []).strip().splitlines()
    if not lines:
        return "unknown", False
    text = lines[0].strip()
    if licence_allowed(text):
        return text, True
    for pattern, name in LICENCE_PHRASES:
        if pattern.match(text.lower()):
            return name, True
    return text[:60], False


def kind_of(path: str) -> str:
    """ "tests" for files in a test folder or named like a test, else "code"."""
    parts = PurePosixPath(path)
    if TEST_FOLDERS.intersection(parts.parts[:-1]):
        return "tests"
    is_test = parts.name.startswith("test_") or parts.name.endswith("_test.py") or parts.name == "conftest.py"
    return "tests" if is_test else "code"


def wanted(path: str) -> bool:
    """Whether a relative path is a Python source outside vendored and held-out folders."""
    parts = PurePosixPath(path)
    if parts.suffix != ".py" or parts.is_absolute() or ".." in parts.parts:
        return False
    folders = set(parts.parts[:-1])
    # CPython's folder "config-3.x-…" and its "_sysconfigdata…" tell of one machine's build.
    built = any(name.startswith(("config-3", "_sysconfigdata")) for name in (*folders, parts.name))
    return not (built or folders & SKIPPED_FOLDERS or (folders | {parts.stem}) & HELD_OUT_PACKAGES)


def standard_library(root: Path | None = None) -> Iterator[SourceFile]:
    """CPython's Lib, sorted by path, without site-packages."""
    root = root or Path(sysconfig.get_path("stdlib"))
    paths = sorted(file.relative_to(root).as_posix() for file in root.rglob("*.py"))
    for path in filter(wanted, paths):
        yield SourceFile(STANDARD_LIBRARY, path, kind_of(path), STANDARD_LIBRARY_LICENCE, root / path)


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(
    distributions: Iterable[metadata.Distribution] | None = None,
) -> tuple[list[SourceFile], dict[str, str]]:
    """Sources of every allowed distribution, and {distribution: why it was left out} for the others."""
    by_name: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions() if distributions is None else distributions:
        by_name.setdefault(canonical(distribution.metadata["Name"] or "unnamed"), distribution)
    found: list[SourceFile] = []
    left_out: dict[str, str] = {}
    for name, distribution in sorted(by_name.items()):
        licence, allowed = licence_of(distribution)
        if name == PROJECT:
            left_out[name] = "this project"
        elif name in HELD_OUT:
            left_out[name] = "held out for evaluation"
        elif not allowed:
            left_out[name] = f"licence not on the list: {licence}"
        elif distribution.files is None:
            left_out[name] = "no list of files"
        else:
            paths = sorted({file.as_posix() for file in distribution.files})
            for path in filter(wanted, paths):
                location = Path(str(distribution.locate_file(path)))
                found.append(SourceFile(name, path, kind_of(path), licence, location))
    return found, left_out


def held_out_texts(distributions: Iterable[metadata.Distribution] | None = None) -> list[str]:
    """The held-out packages' sources, so that copies of them in other packages can be found."""
    texts = []
    for distribution in metadata.distributions() if distributions is None else distributions:
        if canonical(distribution.metadata["Name"] or "") in HELD_OUT:
            names = [name for name in distribution.files or [] if name.suffix == ".py"]
            files = [Path(str(distribution.locate_file(name))) for name in names]
            texts += [file.read_text("utf-8") for file in files if file.is_file()]
    return texts
