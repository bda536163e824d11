"""Tasks mined from doctests: what is shown, what is hidden, and that only verified ones stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model_runtime.cli import main
from model_runtime.protocol import RequestError
from training.corpus import tasks as miner
from training.corpus.tasks import candidates, folder_places, mine, read_tasks, task_reward, write_tasks
from training.rewards import sandbox
from training.rewards.tests import Test, run_tests

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))

MODULE = '''"""Words."""
from .letters import VOWELS


def vowels(word):
    """Count the vowels of a word.

    >>> vowels("house")
    3

    Upper case counts as well.

    >>> word = "AEROPLANE"
    >>> vowels(word)
    5
    >>> vowels(5)
    Traceback (most recent call last):
        ...
    TypeError: no word
    """
    # letters that are in the list
    if not isinstance(word, str):
        raise TypeError("no word")
    return sum(letter in VOWELS for letter in word.lower())


def wrong(word):
    """An example that does not hold.

    >>> wrong("a")
    1
    >>> wrong("b")
    2
    """
    length = len(word)
    return length


def constant():
    """One that a stub passes.

    >>> constant()
    1
    >>> 2 + 2
    4
    """
    one = 1
    return one


def single(word):
    """One example only.

    >>> single("a")
    'a'
    """
    copy = word
    return copy


def after(x):
    return vowels(x)
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    package = tmp_path / "project" / "src" / "words"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "letters.py").write_text("VOWELS = 'aeiou'\n")
    (package / "count.py").write_text(MODULE)
    for folder in (tmp_path, *(p for p in package.parents if p.is_relative_to(tmp_path)), package):
        folder.chmod(0o755)  # inside the sandbox another user reads them
    return tmp_path / "project"


def test_one_example_is_shown_and_the_others_are_hidden(project):
    (place,) = folder_places(project)
    found = {task.function: task for task in candidates(place)}
    assert set(found) == {"vowels", "wrong", "constant"}
    task = found["vowels"]
    assert task.module == "words.count"
    assert task.shown == '>>> vowels("house")\n3\n'
    assert '>>> vowels("house")\n    3\n' in task.prefix
    assert "AEROPLANE" not in task.prefix + task.body + task.suffix
    assert "Traceback" not in task.prefix
    assert "Upper case counts as well." in task.prefix
    assert task.body.startswith("    # letters that")
    assert task.suffix.startswith("\n\n\ndef wrong")
    assert [test.source for test in task.tests] == ["vowels(word)\n", "vowels(5)\n"]
    assert task.tests[0].before == ('vowels("house")\n', 'word = "AEROPLANE"\n')


@needs_sandbox
def test_only_what_the_original_passes_and_a_stub_fails_stays(project, tmp_path):
    found, counts = mine(folder_places(project), workers=2)
    assert [task.function for task in found] == ["vowels"]
    assert counts == {"candidates": 3, "kept": 1, "dropped: original fails": 1, "dropped: stub passes": 1}
    write_tasks(tmp_path / "tasks.jsonl", found)
    assert read_tasks(tmp_path / "tasks.jsonl") == found


@needs_sandbox
def test_a_filling_is_rewarded_by_the_hidden_tests(project):
    (task,), _ = mine(folder_places(project), workers=1)
    packages = [project / "src"]
    assert task_reward(task, task.body, packages).total == 2.5
    half = "    return sum(letter in VOWELS for letter in word.lower())"
    assert task_reward(task, half, packages).tests == 0.5
    assert task_reward(task, "    return 3", packages).tests == 0.0
    assert task_reward(task, "    return (", packages).total == 0.0


@needs_sandbox
def test_the_command_mines_a_folder(project, tmp_path, capsys):
    out = tmp_path / "own.jsonl"
    assert main(["train", "tasks", "--folder", str(project), "--out", str(out), "--workers", "1"]) == 0
    assert "1 tasks to train on, 0 held out" in capsys.readouterr().out
    assert json.loads(out.read_text())["function"] == "vowels"


@needs_sandbox
def test_held_out_packages_are_held_out_here_too():
    found, _ = mine(miner.installed_places(["more-itertools"]), limit=3, workers=2)
    assert {task.split for task in found} == {"held_out"}
    assert {task.licence for task in found} == {"MIT"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--folder", "nowhere", "--out", "t"], "there is no folder nowhere"),
        (["--package", "no-such-package", "--out", "t"], "no-such-package is not installed"),
        (["--folder", ".", "--package", "x", "--out", "t"], "not both"),
        (["--folder", ".", "--out", "t"], "no task was found (no doctest)"),
        (["--limit", "0", "--out", "t"], "--limit is 1 or more"),
        (["--out"], "--out"),
    ],
)
@needs_sandbox
def test_bad_use_is_one_sentence(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "tasks", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_a_sandbox_nothing_is_mined(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.why_not.cache_clear()
    try:
        assert main(["train", "tasks", "--folder", str(tmp_path), "--out", str(tmp_path / "t")]) == 2
    finally:
        monkeypatch.undo()
        sandbox.why_not.cache_clear()
    assert "apt install bubblewrap" in capsys.readouterr().err


def test_a_line_that_is_no_task_is_told(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(RequestError, match="line 1 is no task"):
        read_tasks(tmp_path / "t.jsonl")


@needs_sandbox
def test_a_module_that_its_package_imports_can_be_overlaid(tmp_path):
    """Others hold the function already, and the package needs the module to be imported at all, as most do."""
    package = tmp_path / "ring"
    package.mkdir()
    (package / "__init__.py").write_text("from .one import first\nfrom .two import second\n")
    (package / "one.py").write_text("def first(x):\n    from . import two\n\n    return two.second(x) + 1\n")
    text = "from .one import first\n\n\ndef second(x):\n    return 2 * x\n"
    (package / "two.py").write_text(text)
    for folder in (tmp_path, package):
        folder.chmod(0o755)
    tests = [
        Test("display", "second(2)\n", "4\n"),
        Test("display", "ring.first(2)\n", "5\n", before=("import ring\n",)),
        Test("display", "ring.second(2)\n", "4\n", before=("import ring\n",)),
    ]
    for code, passed in ((text, True), (text.replace("2 * x", "3 * x"), False)):
        outcomes = run_tests(code, tests, name="ring.two", packages=[tmp_path])
        assert [outcome.passed for outcome in outcomes] == [passed] * 3


TESTED = """from words.letters import VOWELS


def first_vowel(word):
    for letter in word:
        if letter in VOWELS:
            return letter
    return None


def untested(word):
    copy = word
    return copy
"""
TESTS = """from words import first
from words.first import first_vowel


def test_there_is_one():
    assert first_vowel("house") == "o"
    assert first.first_vowel("xyz") is None


def test_of_a_fixture(tmp_path):
    assert first_vowel("a") == "a"


def test_of_nothing():
    assert first_vowel
"""


@needs_sandbox
def test_test_functions_make_tasks_of_the_users_code(project):
    (project / "src" / "words" / "first.py").write_text(TESTED)
    (project / "tests").mkdir()
    (project / "tests" / "test_first.py").write_text(TESTS)
    found, counts = mine(folder_places(project), workers=2)
    assert [task.function for task in found] == ["vowels", "first_vowel"]
    task = found[1]
    assert task.prefix.endswith("def first_vowel(word):\n")
    assert task.body.startswith("    for letter in word:")
    assert [test.source.splitlines()[-1] for test in task.tests] == ["test_there_is_one()"]
    packages = [project / "src"]
    assert task_reward(task, task.body, packages).total == 2.5
    assert task_reward(task, "    return 'o'", packages).tests == 0.0
    assert counts["candidates"] == 4
