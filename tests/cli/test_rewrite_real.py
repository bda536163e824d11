"""`diffill rewrite` with the embedded model."""

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_runtime import cli
from model_runtime.commands import rewrite
from model_runtime.engine.engine import Engine

CODE = '''\
def area(width, height):
    """Return the area."""
    result = width * height
    return result  # of a rectangle


class Circle:
    @property
    @cached(
        size=3)
    def edge(self):
        def twice(x): return 2 * x; pass
        return twice(3 * self.r)

    async def draw(self, canvas):
        """Draw it."""; await canvas.circle(self.r)
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    """shapes.py in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shapes.py"
    path.write_bytes(CODE.encode())
    return path


@pytest.fixture(scope="module")
def embedded():
    """The embedded model."""
    return Engine.load("embedded", threads=1)


@pytest.fixture
def run_real(embedded, capfdbinary):
    """A function that runs `diffill rewrite ARGUMENTS…` with the embedded model: (exit code, stdout, stderr)."""

    def run(*arguments):
        capfdbinary.readouterr()
        code = cli.report_errors(lambda: rewrite.main([str(a) for a in arguments], load=lambda *_: embedded))
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return run


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12, deadline=None)
@given(
    st.sampled_from([["--lines", "3:4"], ["--function", "edge"], ["--function", "draw"], ["--lines", "7:13"]]),
    st.sampled_from(["0.05", "0.3", "0.7", "1"]),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 99),
)
def test_a_rewrite_changes_nothing_outside_its_range(run_real, tmp_path, where, strength, line_end, seed):
    path = tmp_path / "shapes.py"
    before = CODE.replace("\n", line_end)
    path.write_bytes(before.encode())
    options = [path, *where, "--strength", strength, "--seed", str(seed), "--max-tokens", "48"]
    code, out, err = run_real(*options, "--json")
    assert code in (0, 1), err
    result = json.loads(out)
    request = rewrite.make_request(rewrite.make_parser().parse_args(map(str, options)), rewrite.read_source(str(path)))
    offsets = [request.range[0], *(at for hole in result["holes"] for at in (hole["start"], hole["end"]))]
    assert [*offsets, request.range[1]] == sorted([*offsets, request.range[1]])
    assert all(hole["start"] < hole["end"] for hole in result["holes"])
    assert all(1 <= token["step"] <= result["steps"] for hole in result["holes"] for token in hole["tokens"])
    after, position = "", 0
    for hole in result["holes"]:
        after += before[position : hole["start"]] + hole["text"]
        position = hole["end"]
    after += before[position:]
    assert run_real(*options, "--stdout")[:2] == (code, after.encode() if code == 0 else before.encode())
    assert after.startswith(before[: request.range[0]])
    assert after.endswith(before[request.range[1] :])


def test_a_weak_rewrite_keeps_most_of_the_range(run_real, file):
    whole = json.loads(run_real("shapes.py", "--function", "edge", "--json")[1])["holes"]
    weak = json.loads(run_real("shapes.py", "--function", "edge", "--strength", "0.1", "--json")[1])["holes"]
    (start, end) = (CODE.index("def twice"), CODE.index("return twice") + len("return twice(3 * self.r)"))
    assert [(hole["start"], hole["end"]) for hole in whole] == [(start, end)]
    assert 0 < sum(hole["end"] - hole["start"] for hole in weak) < (end - start) / 2


def test_the_candidates_are_distinct(run_real, file):
    options = ["--function", "edge", "--alternatives", "3", "--length", "fixed:6", "--seed", "5"]
    result = json.loads(run_real("shapes.py", *options, "--json")[1])
    texts = ["".join(hole["text"] for hole in holes) for holes in (result["holes"], *result["alternatives"])]
    assert len(texts) == len(set(texts)) == 3
    _, _, err = run_real("shapes.py", *options)
    assert "2 further candidates" in err
    assert err.count("\n") == 3


def test_a_length_above_the_limit_is_stopped_there(run_real, file):
    _, out, err = run_real(
        "shapes.py", "--lines", "3:4", "--length", "fixed:9", "--max-tokens", "4", "--trace", "--json"
    )
    result = json.loads(out)
    assert (result["end"], result["holes"][0]["length_policy"]) == ("max_tokens", "fixed:9")
    assert err.startswith("step 1/")
    assert err.endswith("stopped at the most tokens a hole may get\n")


def test_the_program_knows_the_command(file):
    command = [sys.executable, "-m", "model_runtime", "rewrite", "shapes.py", "--function", "area", "--backend", "onnx"]
    done = subprocess.run([*command, "--max-tokens", "8", "--json"], capture_output=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["model"] == "embedded"
    done = subprocess.run([*command[:4], "--help"], capture_output=True, timeout=120)
    assert b"--function Shape.area --strength 0.3" in done.stdout
