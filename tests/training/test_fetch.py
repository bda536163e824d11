"""Packages that a recipe names are pinned, fetched as wheels, and kept whole for validation where it says so."""

import zipfile
from pathlib import Path

import pytest

from training.corpus import fetch, pack, sources
from training.corpus.clean import Document
from training.corpus.fetch import Packages, load_packages
from training.corpus.sources import SourceFile

RECIPE = Path(fetch.__file__).parents[1] / "recipes/embedded/packages.yaml"


def wheel(folder: Path, name: str, version: str, tag: str = "py3-none-any") -> None:
    """A wheel of one module, MIT."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/core.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, and from nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_pins_are_fetched_and_their_sources_found(shelf: Path, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        wheel(shelf, "good", version)
    found, _ = sources.installed(fetch.fetch(Packages(train=("good==1.0",)), tmp_path / "into"))
    assert [(file.source, file.path, file.licence) for file in found] == [("good", "good/core.py", "MIT")]
    (other,) = fetch.fetch(Packages(train=("good==2.0",)), tmp_path / "into")
    assert other.version == "2.0"


def test_what_is_fetched_is_not_fetched_again(shelf: Path, tmp_path: Path) -> None:
    wheel(shelf, "good", "1.0")
    packages = Packages(train=("good==1.0",))
    fetch.fetch(packages, tmp_path / "into")
    next(shelf.iterdir()).unlink()
    assert len(fetch.fetch(packages, tmp_path / "into")) == 1


@pytest.mark.parametrize("tag", ["cp311-cp311-manylinux_2_17_x86_64", None])
def test_compiled_and_missing_packages_are_refused(shelf: Path, tmp_path: Path, tag: str | None) -> None:
    if tag:
        wheel(shelf, "good", "1.0", tag)
    with pytest.raises(RuntimeError, match=r"could not fetch.*good==1.0"):
        fetch.fetch(Packages(train=("good==1.0",)), tmp_path / "into")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: [good]", "no exact pin"),
        ("train: ['good>=1.0']", "no exact pin"),
        ("train: ['--index-url=x==1']", "no exact pin"),
        ("train: ['More_Itertools==1.0']", "held out"),
        ("tests: ['good==1.0']", "called train and validation"),
        ("[good]", "called train and validation"),
        ("train: [" + ", ".join(f"p{n}==1" for n in range(31)) + "]", "at most 30"),
    ],
)
def test_a_bad_list_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "packages.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        load_packages(tmp_path / "packages.yaml")


def test_the_recipe_names_validation_packages() -> None:
    packages = load_packages(RECIPE)
    assert packages.validation_names == {"invoke", "lark", "marshmallow", "requests"}


def test_named_sources_are_kept_whole_for_validation() -> None:
    documents = [
        Document(SourceFile(name, f"{name}/{n}.py", "code", "MIT", Path("m.py")), "x\n")
        for n in range(10)
        for name in ("a", "b")
    ]
    ordered, first = pack.arrange(documents, 0, {"b"})
    assert {d.file.source for d in ordered[:first]} == {"a"}
    assert {d.file.source for d in ordered[first:]} == {"b"}
    assert first == 10
    assert pack.arrange(documents, 0, {"c"})[1] == 19
