"""Runs: every sample recorded, going on after any loss, what cannot be gone on with, comparing, summaries."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("accelerate")

from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime.protocol import RequestError
from training.evaluation import compare, runs
from training.evaluation.benchmarks.problem import Exact, Problem
from training.evaluation.decoders import Written, seed_of
from training.evaluation.runs import Plan, run
from training.evaluation.summary import kendall_distance, summarize
from training.rewards.pool import RewardPool

PROBLEMS = [
    Problem(f"p{n}", "infill", "x = ", {"exact": Exact(str(n % 3))}, suffix="\n", gold=str(n % 3)) for n in range(5)
]
TIMES = ("ms",)


class Letters:
    """A tokenizer of characters."""

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


class Dice:
    """A decoder whose texts depend on the whole batch and its seed; it may break down after some batches."""

    tokenizer = Letters()

    def __init__(self, breaks_after: int = 10**9):
        self.left = breaks_after

    def check(self, problems):
        pass

    def write(self, problems, temperature, seed):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        drawn = seed_of(f"{seed} {[problem.id for problem in problems]}")
        return [Written(str((drawn + n) % 3), 1, float(drawn % 7), [1, 0, 2], 3) for n in range(len(problems))]


def plan(**changes) -> Plan:
    facts = {
        "benchmark": "santacoder-fim",
        "data": "d",
        "problems": 5,
        "model": "m",
        "weights": "w",
        "decoder": "whole",
    }
    facts |= {"chat": False, "length": "fixed:4", "temperatures": (0.2, 1.0), "seeds": (0, 1), "samples": 2}
    facts |= {"max_new_tokens": 8, "steps": 8, "alg": "entropy", "top_p": None, "batch": 3}
    return Plan(**(facts | changes))


@pytest.fixture(scope="module")
def pool():
    with RewardPool(1, unsafe=True) as made:  # exact match executes nothing
        yield made


def make(pool, folder: Path, decoder: Dice | None = None, **changes) -> list[dict]:
    return run(plan(**changes), PROBLEMS, decoder or Dice(), pool, folder, {})


@pytest.fixture(scope="module")
def whole(pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    make(pool, folder)
    return (folder / "samples.jsonl").read_bytes()


def test_every_sample_is_a_line_in_order(pool, whole):
    rows = [json.loads(line) for line in whole.splitlines()]
    assert len(rows) == 2 * 2 * 5 * 2
    keys = [(row["temperature"], row["seed"], row["task_id"], row["sample"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys)
    assert {row["passed"] for row in rows} == {True, False}
    assert len({(row["temperature"], row["seed"]) for row in rows if row["batch"] == 3}) == 1  # none spans two seeds


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 1), garbage=st.sampled_from([b"", b'{"task_id": "p0"', b"\0\0\0", b"nonsense\n"]))
def test_a_run_that_was_cut_anywhere_ends_the_same(pool, whole, tmp_path_factory, cut, garbage):
    folder = tmp_path_factory.mktemp("cut")
    make_settings(folder)
    (folder / "samples.jsonl").write_bytes(whole[: int(cut * len(whole))] + garbage)
    make(pool, folder)
    assert (folder / "samples.jsonl").read_bytes() == whole


def make_settings(folder: Path) -> None:
    runs.begin(plan(), folder, {})


@pytest.mark.parametrize("batches", [0, 1, 5, 15])
def test_an_interrupted_run_goes_on(pool, whole, tmp_path, batches):
    with pytest.raises(KeyboardInterrupt):
        make(pool, tmp_path, Dice(breaks_after=batches))
    rows = make(pool, tmp_path)
    assert (tmp_path / "samples.jsonl").read_bytes() == whole
    assert rows == [json.loads(line) for line in whole.splitlines()]


def test_a_finished_run_writes_nothing_more(pool, whole, tmp_path):
    make(pool, tmp_path)
    assert len(make(pool, tmp_path, Dice(breaks_after=0))) == 40


def test_other_settings_are_refused(pool, tmp_path):
    make(pool, tmp_path)
    with pytest.raises(RequestError, match=r"holds a run with another samples \(2, not 3\)"):
        make(pool, tmp_path, samples=3)
    with pytest.raises(RequestError, match="holds a run with another data"):
        make(pool, tmp_path, data="other")
    (tmp_path / "samples.jsonl").write_text(
        "".join(json.dumps({"task_id": "q", "sample": 0, "batch": 0}) + "\n" for _ in range(3))
    )
    with pytest.raises(RequestError, match="holds samples that this run does not ask for"):
        make(pool, tmp_path)


def test_two_processes_do_not_write_one_file(pool, tmp_path):
    make_settings(tmp_path)
    with runs.samples_file(tmp_path / "samples.jsonl"), pytest.raises(RequestError, match="another process is writing"):
        make(pool, tmp_path)


def test_a_full_disk_is_told_and_the_run_goes_on_later(pool, whole, tmp_path):
    make_settings(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(RequestError, match=r"no space is left for .* give the same command again"):
            make(pool, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    make(pool, tmp_path)
    assert (tmp_path / "samples.jsonl").read_bytes() == whole


def test_places_that_cannot_be_written_or_read(pool, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be made"):
        make(pool, tmp_path / "file" / "run")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RequestError, match="cannot be read"):
        make(pool, tmp_path)


def finished(pool, folder: Path, **changes) -> Path:
    rows = make(pool, folder, **changes)
    (folder / "summary.json").write_text(json.dumps(summarize(rows, [1])))
    return folder


def test_comparing_two_runs(pool, tmp_path, capsys):
    a = finished(pool, tmp_path / "a", temperatures=(0.2,))
    b = finished(pool, tmp_path / "b", temperatures=(0.2,), seeds=(5, 6))
    assert compare.main([str(a), str(b), "--k", "2"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out.splitlines()[-1])
    assert found["same"] + found["a_better"] + found["b_better"] == 5
    assert "B - A: " in out
    assert compare.main([str(a), str(a)]) == 0
    assert "no difference is shown" in capsys.readouterr().out


def test_runs_that_cannot_be_compared(pool, tmp_path):
    a = finished(pool, tmp_path / "a", temperatures=(0.2,))
    for name, changes, message in (
        ("other", {"benchmark": "mbpp"}, r"are runs of different benchmarks \(santacoder-fim and mbpp\)"),
        ("data", {"data": "x"}, "different data of one benchmark"),
        ("two", {}, r"has the temperatures 0\.2, 1\.0: say which with --temperature"),
    ):
        b = finished(pool, tmp_path / name, **({"temperatures": (0.2,)} if name != "two" else {}), **changes)
        with pytest.raises(RequestError, match=message):
            compare.main([str(a), str(b)])
    with pytest.raises(RequestError, match="pass@9 needs at least 9 samples a problem, and there are 4"):
        compare.main([str(a), str(a), "--k", "9"])
    with pytest.raises(RequestError, match=r"has no temperature 0\.7; it has 0\.2"):
        compare.main([str(a), str(a), "--temperature", "0.7"])
    with pytest.raises(RequestError, match=r"is no run of diffill eval: it has no run\.json"):
        compare.main([str(a), str(tmp_path)])
    (a / "summary.json").unlink()
    with pytest.raises(RequestError, match="is not finished"):
        compare.main([str(a), str(a)])
    with pytest.raises(RequestError, match=r"different problems \(1 only in the first, 2 only in the second\)"):
        compare.compare({"a": 1.0, "b": 0.0}, {"b": 1.0, "c": 0.0, "d": 0.0})


def row(task: str, passed: bool, **changes) -> dict:
    base = {"task_id": task, "temperature": 0.2, "seed": 0, "sample": 0, "passed": passed, "suites": {"base": passed}}
    base |= {"text": "abcd", "tokens": 2, "ms": 10.0, "parses": True, "exact": passed, "gap": -1, "echo": False}
    return base | {"order": [0, 1], "steps": 2} | changes


def test_figures_of_a_run():
    rows = [row("a", True), row("a", False, seed=1), row("b", False), row("b", False, seed=1, gap=3, echo=True)]
    found = summarize(rows, [1, 2], {"gold": {"a": True, "b": False}})
    figures = found["temperatures"]["0.2"]
    assert figures["pass@1"]["mean"] == 0.25
    assert figures["pass@2"]["mean"] == 0.5
    assert figures["seeds"] == {"0": 0.5, "1": 0.0}
    assert figures["echo"]["mean"] == 0.25
    assert (figures["gap_mean"], figures["gap_absolute"]) == (0.0, 1.5)
    assert figures["ms_per_accepted_character"] == 40.0 / 4
    assert figures["arness"]["global"]["1"]["mean"] == 1.0
    assert figures["order_distance"] == 0.0
    assert found["gold"]["mean"] == 0.5
    assert "best" not in found
    with pytest.raises(RequestError, match="pass@3"):
        summarize(rows, [3])


def test_the_best_of_several_temperatures_says_that_it_was_chosen():
    rows = [row("a", False), row("a", True, temperature=0.4)]
    best = summarize(rows, [1])["best"]
    assert best["temperature"] == 0.4
    assert "chosen by these very results" in best["note"]


def test_a_search_has_no_order():
    assert "arness" not in summarize([row("a", True, steps=1)], [1])["temperatures"]["0.2"]


def test_how_far_two_orders_are_apart():
    assert kendall_distance([0, 1, 2], [0, 1, 2]) == 0
    assert kendall_distance([0, 1, 2], [2, 1, 0]) == 1
    assert kendall_distance([0, 1, 2, 7], [1, 0, 2]) == pytest.approx(1 / 3)
    assert kendall_distance([0], [0]) is None
