"""`diffill fill` from its arguments to its outputs and exit codes, with a small engine in the real one's place."""

import io
import json
import os
import re
import signal
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_runtime import __version__, cli
from model_runtime.protocol import ModelError

posix_only = pytest.mark.skipif(os.name != "posix", reason="signals and terminals of POSIX")


@pytest.fixture
def file(tmp_path, monkeypatch):
    """it.py in the current folder: a byte order mark, three kinds of line end, none at the end."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "it.py"
    path.write_bytes("\ufeffdef f():\r\n    return <FILL>\r\n# 👩\n\rend".encode())
    return path


def test_the_default_output_is_a_diff_and_a_summary(run_fill, engine, file):
    file.write_text("a\nb\nc\nd <FILL>\ne\nf\ng\nh\n")
    engine.texts = ["1\n2"]
    code, out, err = run_fill("it.py")
    assert code == 0
    assert out.decode() == ("--- a/it.py\n+++ b/it.py\n@@ -1,7 +1,8 @@\n a\n b\n c\n-d <FILL>\n+d 1\n+2\n e\n f\n g\n")
    assert err == "diffill: fake, 2 steps, 3 tokens, 6 ms, confidence 0.75\n"
    assert file.read_text() == "a\nb\nc\nd <FILL>\ne\nf\ng\nh\n"


def test_every_hole_has_its_confidence_in_the_summary(run_fill, engine, file):
    engine.end = "max_tokens"
    code, _, err = run_fill("it.py", "--at", "1:4", "--lines", "3:3")
    assert code == 0
    assert err == (
        "diffill: fake, 2 steps, 2 tokens, 6 ms, confidence 0.75 at 1:4, confidence 0.75 at 3:1, "
        "stopped at the most tokens a hole may get\n"
    )


def test_stdout_is_the_filled_file_byte_for_byte(run_fill, engine, file):
    engine.texts = ["é\r\n"]
    code, out, _ = run_fill("it.py", "--stdout")
    assert code == 0
    assert out == file.read_bytes().replace(b"<FILL>", "é\r\n".encode())


def test_write_replaces_the_file_and_prints_no_diff(run_fill, engine, file):
    before = file.read_bytes()
    engine.texts = ["1"]
    code, out, err = run_fill("it.py", "--write")
    assert (code, out) == (0, b"")
    assert err.startswith("diffill: fake, 2 steps")
    assert file.read_bytes() == before.replace(b"<FILL>", b"1")


def test_json_is_the_result_of_the_protocol(run_fill, engine, file):
    engine.texts = ["é"]
    code, out, err = run_fill("it.py", "--json", "--seed", "7")
    result = json.loads(out)
    assert (code, err[:14]) == (0, "diffill: fake,")
    assert result["holes"][0] == {
        "start": 22,
        "end": 28,
        "text": "é",
        "confidence": 0.75,
        "length_policy": "fixed",
        "tokens": [{"start": 0, "end": 1, "confidence": 0.75, "step": 1}],
    }
    assert (result["end"], result["seed"], result["model"], result["alternatives"]) == ("complete", 7, "fake", [])


def test_options_become_the_request(run_fill, engine, file):
    arguments = "--steps 3 --max-tokens 9 --max-lines 2 --length fixed:4 --sampler entropy --temperature 0.5"
    arguments += " --top-p 0.9 --top-k 5 --seed 11 --budget-ms 250 --cache off"
    arguments += " --alternatives 3 --language go --backend torch"
    assert run_fill("it.py", *arguments.split())[0] == 0
    (request,) = engine.requests
    assert (request.steps, request.max_tokens, request.max_lines, request.length) == (3, 9, 2, "fixed:4")
    assert (request.sampler, request.temperature, request.top_p, request.top_k) == ("entropy", 0.5, 0.9, 5)
    assert (request.seed, request.deadline_ms, request.cache, request.path) == (11, 250.0, "off", "it.py")
    assert (request.alternatives, request.language, engine.backend) == (3, "go", "torch")


def test_further_candidates_stand_below_the_diff(run_fill, engine, file):
    engine.others = ["a\n\tb", "c" * 200]
    code, out, err = run_fill("it.py", "--alternatives", "4")
    assert (code, out.startswith(b"--- a/it.py")) == (0, True)
    assert err == (
        "diffill: fake, 2 steps, 1 token, 6 ms, confidence 0.75, 2 further candidates\n"
        "diffill: candidate 2, confidence 0.50: a\\n\\tb\n"
        f"diffill: candidate 3, confidence 0.50: {'c' * 99}…\n"
    )
    code, out, err = run_fill("it.py", "--alternatives", "4", "--json")
    assert [[hole["text"] for hole in holes] for holes in json.loads(out)["alternatives"]] == [["a\n\tb"], ["c" * 200]]
    assert err.count("\n") == 1


def test_what_comes_back_as_it_was_is_no_change(run_fill, engine, file):
    engine.texts = ["end"]
    code, out, err = run_fill("it.py", "--lines", "5:5")
    assert (code, out) == (0, b"")
    assert err == "diffill: fake, 2 steps, 3 tokens, 6 ms, confidence 0.75, no change\n"


def test_the_confidences_of_many_holes_are_told_together(run_fill, engine, file):
    code, _, err = run_fill("it.py", *["--at", "1:1", "--at", "1:2", "--at", "1:3", "--at", "1:4"])
    assert (code, err) == (0, "diffill: fake, 2 steps, 4 tokens, 6 ms, confidence 0.75 to 0.75 in 4 places\n")


def test_standard_input_is_a_file_without_a_name(run_fill, engine, monkeypatch):
    data = io.TextIOWrapper(io.BytesIO(b"a\r\n<FILL>"))
    monkeypatch.setattr(sys, "stdin", data)
    code, out, _ = run_fill("-")
    assert code == 0
    assert out == (
        b"--- a/stdin\n+++ b/stdin\n@@ -1,2 +1,2 @@\n a\r\n-<FILL>\n\\ No newline at end of file\n"
        b"+x\n\\ No newline at end of file\n"
    )
    assert engine.requests[0].path is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "\n", "\r\n", "\r", "👩", "e\u0301", "\t", "<FILL>", "\u2028"]), max_size=12),
    st.sampled_from(["z", "z\n", "\r\n", "é"]),
    st.booleans(),
)
def test_what_lies_outside_the_holes_stays_byte_for_byte(run_fill, engine, tmp_path, pieces, text, bom):
    before = ("\ufeff" * bom + "".join(pieces) + "<FILL>").encode()
    after = before.replace(b"<FILL>", text.encode())
    path = tmp_path / "it.txt"
    path.write_bytes(before)
    engine.texts = [text]
    assert run_fill(path, "--stdout")[:2] == (0, after)
    assert path.read_bytes() == before
    assert run_fill(path, "--write")[:2] == (0, b"")
    assert path.read_bytes() == after


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("empty", "the model left every hole empty"),
        ("complete", "the model left every hole empty"),
        ("deadline", "the time budget ended before anything was written"),
    ],
)
def test_nothing_to_offer_is_exit_code_1_with_a_reason(run_fill, engine, file, end, reason):
    before = file.read_bytes()
    engine.texts, engine.end = [""], end
    said = f"diffill: nothing to offer: {reason}\n"
    assert run_fill("it.py") == (1, b"", said)
    assert run_fill("it.py", "--write") == (1, b"", said)
    assert run_fill("it.py", "--stdout") == (1, before, said)
    assert json.loads(run_fill("it.py", "--json")[1])["end"] == end
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("missing.py", "there is no file missing.py"),
        (".", ". is a folder; give a file"),
        ("it.py --at 99:1", "position 99:1 lies outside the file, whose lines go from 1 to 5"),
        ("it.py --lines 2:1", "--lines 2:1 ends before it starts; give the smaller line first"),
        ("it.py --marker HERE", "it.py holds no 'HERE' to fill; put one there or give --at or --lines"),
        ("it.py --at 1:1 --at 1:1", "two holes overlap at 1:1; each place can be filled once"),
        ("it.py --model nonesuch", "there is no model 'nonesuch'"),
        ("it.py --steps 0", "steps is at least 1, not 0"),
        ("it.py --seed -1", "seed is at least 0, not -1"),
        ("it.py --seed one", "argument --seed: takes a whole number, not 'one'"),
        ("it.py --temperature nan", "argument --temperature: takes a number, not 'nan'"),
        ("it.py --budget-ms 0", "the time budget is above 0 ms, not 0.0"),
        ("it.py --length long", "length is auto, expand, search, probe or fixed:N (N from 1), not 'long'"),
        ("it.py --alternatives 0", "alternatives is at least 1, not 0"),
        ("it.py --cache maybe", "cache is on, context or off, not 'maybe'"),
        ("it.py --write --json", "argument --json: not allowed with argument --write"),
        ("it.py --at", "argument --at: expected one argument"),
        ("it.py --nonesuch", "unrecognized arguments: --nonesuch"),
        ("", "the following arguments are required: FILE"),
    ],
)
def test_bad_use_is_one_sentence_and_exit_code_2(run_fill, engine, file, arguments, said):
    before = file.read_bytes()
    for extra in ([], ["--write"]) if "--write" not in arguments else ([],):
        code, out, err = run_fill(*arguments.split(), *extra)
        assert (code, out, err) == (2, b"", f"diffill: {said}\n")
    assert engine.requests == []
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_written_is_refused_before_the_model_runs(run_fill, engine, file):
    assert run_fill("-", "--write") == (2, b"", "diffill: --write needs a file; with - use --stdout\n")
    file.chmod(0o444)
    code, out, err = run_fill("it.py", "--write")
    assert (code, out) == (2, b"")
    assert err == "diffill: it.py is read-only; make it writable or use --stdout\n"
    assert engine.requests == []


@posix_only
@pytest.mark.parametrize("output", ["diff", "--write", "--stdout"])
def test_an_interrupt_cancels_and_shows_the_best_so_far(run_fill, engine, file, output):
    before = file.read_bytes()
    engine.on_step = lambda cancel: os.kill(os.getpid(), signal.SIGINT)
    code, out, err = run_fill("it.py", *([] if output == "diff" else [output]))
    assert code == 130
    assert b"    return x\r\n" in out
    assert err.startswith("diffill: interrupted, this is the best so far")
    assert file.read_bytes() == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@posix_only
def test_a_second_interrupt_ends_it(run_fill, engine, file):
    def twice(cancel):
        os.kill(os.getpid(), signal.SIGINT)
        assert cancel.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    engine.on_step = twice
    assert run_fill("it.py") == (130, b"", "diffill: interrupted\n")


def test_the_trace_is_a_line_a_step_where_there_is_no_terminal(run_fill, engine, file):
    engine.texts = ["a\tb\n"]
    code, out, err = run_fill("it.py", "--trace", "--stdout", "--at", "1:1", "--at", "2:1")
    assert code == 0
    assert out.startswith("\ufeffa\tb\ndef".encode())
    assert err.splitlines()[:2] == ["step 1/2  ░░░░  |  ░░░░", "step 2/2  a░░░  |  a░░░"]


@posix_only
def test_the_trace_redraws_on_a_terminal(run_fill, engine, file, draw):
    engine.texts = ["yes"]
    drawn = draw(lambda: run_fill("it.py", "--trace"))
    assert "step 1/2" in drawn
    assert "░░░" in drawn
    assert "hole at 2:12" in drawn
    steps, done = drawn[: drawn.index("done")], drawn[drawn.index("done") :]
    assert "\x1b[32m" in steps  # of 0.9, the first token's when it settled
    assert "\x1b[33m" in done  # the colour of a confidence of 0.75
    assert "yes" in re.sub(r"\x1b\[[0-9;]*m", "", done)


@posix_only
def test_a_reader_that_goes_away_is_no_error(run_fill, file, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code, _, err = run_fill("it.py", "--stdout")
        monkeypatch.undo()
    assert (code, err) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_an_output_that_is_full_is_one_sentence(run_fill, file, monkeypatch):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        code, _, err = run_fill("it.py", "--stdout")
        monkeypatch.undo()
    assert (code, err) == (2, "diffill: cannot write to standard output: No space left on device\n")


def test_version_and_help_go_to_stdout(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"diffill {__version__}\n"
    assert cli.main(["--help"]) == 0
    assert "fill the holes of a file" in " ".join(capsys.readouterr().out.split())
    assert cli.main(["fill", "--help"]) == 0
    assert "diffill fill app.py --at 12:8" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["nonesuch"], ["--nonesuch"]])
def test_no_such_command_is_one_sentence(arguments, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("diffill: ")
    assert err.count("\n") == 1


def test_an_error_of_several_lines_is_told_on_one(capsys):
    def fail():
        raise ModelError("weights are\n  cut short")

    assert cli.report_errors(fail) == 2
    assert capsys.readouterr().err == "diffill: weights are cut short\n"
