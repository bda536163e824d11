"""A corpus from end to end: what is found, what is dropped and why, the same bytes again, after a kill, in parallel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from world import MIT, QUIET, contents, git, module, recipe_of, write

from model_runtime.protocol import RequestError
from training.corpus import pipeline, store
from training.corpus.pack import load_pack
from training.corpus.pipeline import build_corpus
from training.corpus.tokenizer import load_tokenizer

HERE = Path(__file__).parent


def source(packages: Path, **values):
    return {"kind": "folder", "path": f"{packages}/*", "name": "code"} | values


def listing(out: Path) -> list[dict]:
    return json.loads((out / "documents.json").read_text())


def test_every_text_is_kept_or_counted_by_its_reason(packages, tmp_path):
    report = build_corpus(recipe_of(sources=[source(packages)]), tmp_path / "out", 1, QUIET)
    assert report["found"] == 36 + 3 + 2
    assert report["dropped"] == {
        "tiny": 1,
        "exact duplicate": 1,
        "does not parse": 1,
        "licence unknown": 1,
        "licence not allowed": 1,
    }
    assert report["total"]["files"] == 36 == report["found"] - sum(report["dropped"].values())
    assert report["sources"]["code"]["licence"] == "MIT"
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())


def test_the_pack_gives_every_document_back_in_both_of_its_parts(packages, tmp_path):
    out = tmp_path / "out"
    recipe = recipe_of(sources=[source(packages)], shard_mb=0.01, holdout={"validation": ["package2"], "share": 0})
    report = build_corpus(recipe, out, 1, QUIET)
    assert len(report["shards"]) > 3
    pack, tokenizer, documents = load_pack(out), load_tokenizer(out / "tokenizer.json"), listing(out)
    assert len(pack) == len(documents) == report["total"]["files"]
    for number, document in enumerate(documents):
        text = (packages / document["group"] / document["path"]).read_text()
        assert tokenizer.decode(pack.document(number).tolist()) == text
    assert pack.offsets[-1] == len(pack.tokens) == report["total"]["tokens"]
    held = {document["group"] for document in documents[pack.validation_from :]}
    assert (
        held
        == {"package2"}
        == {d["group"] for d in documents} - {d["group"] for d in documents[: pack.validation_from]}
    )
    # a slice over the border of two shards is what the documents say
    first = len(np.load(out / "tokens-00000.npy", mmap_mode="r"))
    assert pack.tokens[first - 5 : first + 5].tolist() == [
        *np.load(out / "tokens-00000.npy")[-5:],
        *np.load(out / "tokens-00001.npy")[:5],
    ]
    assert pack.tokens[-1] == pack.document(len(pack) - 1)[-1]


def test_the_same_bytes_again_and_others_for_another_seed(packages, tmp_path):
    first = recipe_of(sources=[source(packages)], shard_mb=0.01)
    build_corpus(first, tmp_path / "a", 1, QUIET)
    build_corpus(first, tmp_path / "b", 2, QUIET)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    build_corpus(recipe_of(sources=[source(packages)], shard_mb=0.01, seed=1), tmp_path / "c", 1, QUIET)
    assert contents(tmp_path / "a").keys() == contents(tmp_path / "c").keys()
    assert listing(tmp_path / "a") != listing(tmp_path / "c")


KILLED = """
import os, signal, sys
sys.path.insert(0, {here!r})
from pathlib import Path
from world import QUIET, recipe_of
from training.corpus import inputs, pipeline, report, sources, store

report.picture = lambda *_: "<svg></svg>"
sources.held_out_texts = list
recipe = recipe_of(sources=[{{"kind": "folder", "path": {pattern!r}, "name": "code"}}], shard_mb=0.02)
inputs.pieces.__defaults__ = (0.01,)
real = store.commit

def dies_at(number, named):
    left = number
    def commit(partial, path):
        nonlocal left
        left -= 1
        if left > 0 or named:
            real(partial, path)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return commit

runs = 0
while runs < 300:
    child = os.fork()
    if child == 0:
        store.commit = dies_at(1 + runs % 5, named=runs % 2)
        pipeline.build_corpus(recipe, Path({out!r}), 1, QUIET)
        os._exit(0)
    runs += 1
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
print(runs, os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_again_and_again_it_ends_with_the_same_bytes(packages, tmp_path, monkeypatch):
    """Each run dies at the first to fifth file that it finishes, by turns before and after that has its name."""
    script = KILLED.format(here=str(HERE), pattern=f"{packages}/*", out=str(tmp_path / "killed"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    runs, code = map(int, done.stdout.split())
    assert (code, done.stderr.strip()) == (0, "")
    monkeypatch.setattr(pipeline.find_inputs.__globals__["pieces"], "__defaults__", (0.01,))
    recipe = recipe_of(sources=[source(packages)], shard_mb=0.02)
    build_corpus(recipe, tmp_path / "whole", 1, QUIET)
    assert 20 < runs < 300
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_full_disk_is_told_and_the_build_goes_on_afterwards(packages, tmp_path, monkeypatch):
    recipe, out = recipe_of(sources=[source(packages)], shard_mb=0.02), tmp_path / "out"
    room = 5

    def full(file_descriptor):
        nonlocal room
        room -= 1
        if room < 0:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(RequestError, match=r"no space is left for \S+ in .*goes on from there"):
        build_corpus(recipe, out, 1, QUIET)
    assert list(out.rglob("*.partial")) == []
    monkeypatch.undo()
    build_corpus(recipe, out, 1, QUIET)
    build_corpus(recipe, tmp_path / "other", 1, QUIET)
    assert contents(out) == contents(tmp_path / "other")


def test_a_worker_that_is_killed_is_told(tmp_path):
    with pytest.raises(RequestError, match="killed while it was to read"):
        pipeline.spread(kill_self, [(1,), (2,)], 2, "read", QUIET)


def kill_self(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_finished_corpus_is_not_built_again_and_a_changed_recipe_replaces_it(packages, tmp_path):
    out = tmp_path / "out"
    recipe = recipe_of(sources=[source(packages)], shard_mb=0.01)
    build_corpus(recipe, out, 1, QUIET)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    build_corpus(recipe, out, 1, QUIET)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    build_corpus(recipe_of(sources=[source(packages)], shard_mb=64), out, 1, QUIET)
    build_corpus(recipe_of(sources=[source(packages)], shard_mb=64), tmp_path / "new", 1, QUIET)
    assert contents(out) == contents(tmp_path / "new")


def test_a_changed_file_is_read_again(packages, tmp_path):
    out, recipe = tmp_path / "out", recipe_of(sources=[source(packages)])
    build_corpus(recipe, out, 1, QUIET)
    write(packages / "package3" / "m0.py", module(777, 12))
    build_corpus(recipe, out, 1, QUIET)
    pack, tokenizer = load_pack(out), load_tokenizer(out / "tokenizer.json")
    texts = {tokenizer.decode(pack.document(number).tolist()) for number in range(len(pack))}
    assert module(777, 12) in texts
    assert module(30, 12) not in texts


def test_two_builds_do_not_share_a_folder(packages, tmp_path):
    recipe = recipe_of(sources=[source(packages)])
    with store.alone(tmp_path / "out"), pytest.raises(RequestError, match="another process is building"):
        build_corpus(recipe, tmp_path / "out", 1, QUIET)
    build_corpus(recipe, tmp_path / "out", 1, QUIET)


def test_a_foreign_corpus_is_not_overwritten(packages, tmp_path):
    write(tmp_path / "out" / "tokens.npy", b"")
    with pytest.raises(RequestError, match="choose another folder"):
        build_corpus(recipe_of(sources=[source(packages)]), tmp_path / "out", 1, QUIET)


def test_held_out_groups_and_their_copies_stay_out(packages, tmp_path):
    write(packages / "package5" / "near.py", module(10, 12).replace("None", "Nil", 1))
    recipe = recipe_of(
        sources=[source(packages)], holdout={"never": ["package1"], "validation": ["package2"], "share": 0}
    )
    report = build_corpus(recipe, tmp_path / "out", 1, QUIET)
    groups = {document["group"] for document in listing(tmp_path / "out")}
    assert groups == {"package0", "package2", "package3", "package4", "package5"}
    assert report["dropped"]["held out for evaluation"] == 6
    assert report["dropped"]["exact copy of a held-out package"] == 1
    assert report["dropped"]["near copy of a held-out package"] == 1
    assert report["validation"]["files"] == 6


def test_a_share_of_the_groups_is_for_validation_whole(packages, tmp_path):
    seeds_seen = set()
    for seed in range(4):
        recipe = recipe_of(sources=[source(packages)], holdout={"share": 0.4}, seed=seed)
        build_corpus(recipe, tmp_path / str(seed), 1, QUIET)
        first = load_pack(tmp_path / str(seed)).validation_from
        documents = listing(tmp_path / str(seed))
        train, held = ({d["group"] for d in part} for part in (documents[:first], documents[first:]))
        assert held
        if len(held) > 1 or len(documents) - first > 1:
            assert not train & held
        seeds_seen.add(frozenset(held))
    assert len(seeds_seen) > 1


def test_weights_repeat_and_thin_out_sources(packages, tmp_path):
    twice = [
        source(packages / "..", name=n, path=str(packages / f"package{n}"), weight=w) for n, w in ((3, 2.5), (4, 0))
    ]
    for row in twice:
        row["name"] = str(row["name"])
    rest = source(packages, path=str(packages / "package5"), name="rest")
    report = build_corpus(recipe_of(sources=[*twice, rest], holdout={"share": 0}), tmp_path / "out", 1, QUIET)
    documents = listing(tmp_path / "out")
    counts = {name: [d["path"] for d in documents if d["source"] == name] for name in ("3", "4", "rest")}
    assert counts["4"] == []
    assert report["dropped"] == {"below its source's weight": 6}
    assert len(counts["rest"]) == 6
    assert {counts["3"].count(path) for path in set(counts["3"])} <= {2, 3}
    assert len(set(counts["3"])) == 6
    assert np.load(tmp_path / "out" / "sources.npy").tolist() == [
        ["3", "4", "rest"].index(d["source"]) for d in documents
    ]


def test_caps_hold_and_are_counted(packages, tmp_path):
    for number in range(6):
        write(packages / "package0" / "tests" / f"test_{number}.py", module(500 + number, 12))
    cap = 3 * len(module(0, 12)) / 1e6
    report = build_corpus(
        recipe_of(sources=[source(packages, cap_mb=cap)], tests_share=0.5, holdout={"share": 0}),
        tmp_path / "out",
        1,
        QUIET,
    )
    assert report["total"]["bytes"] - report["tests"]["bytes"] <= cap * 1e6
    assert report["tests"]["bytes"] <= 0.5 * cap * 1e6
    assert report["dropped"]["over the source's cap"] >= 32
    assert report["dropped"]["over the tests' cap"] >= 4


def test_a_checkout_gives_what_git_tracks_under_its_licence(tmp_path):
    root = tmp_path / "checkout"
    write(root / "LICENSE", MIT)
    for number in range(4):
        write(root / "lib" / f"m{number}.py", module(number, 12))
    write(root / "ignored.py", module(50, 12))
    write(root / ".gitignore", "ignored.py\n")
    write(root / "vendor" / "v.py", module(51, 12))
    write(root / "lib" / "other" / "LICENSE.txt", "All rights reserved.\n")
    write(root / "lib" / "other" / "m.py", module(52, 12))
    git(tmp_path, "init", "-q", "checkout")
    git(root, "add", "-A")
    report = build_corpus(recipe_of(sources=[{"kind": "git", "path": str(root)}]), tmp_path / "out", 1, QUIET)
    assert {d["path"] for d in listing(tmp_path / "out")} == {f"lib/m{n}.py" for n in range(4)}
    assert report["dropped"] == {"licence unknown": 1}


def test_secrets_and_addresses_do_not_reach_the_tokens(packages, tmp_path):
    key = "AKIA" + "Q3EGRNLXT7PMWVCZ"
    write(packages / "package0" / "keys.py", f'KEY = "{key}"  # someone@company.io\n' + module(800, 12))
    report = build_corpus(recipe_of(sources=[source(packages)]), tmp_path / "out", 1, QUIET)
    tokenizer, pack = load_tokenizer(tmp_path / "out" / "tokenizer.json"), load_pack(tmp_path / "out")
    text = "".join(tokenizer.decode(pack.document(number).tolist()) for number in range(len(pack)))
    assert key not in text
    assert "someone@company.io" not in text
    assert report["scrubbed"] == {"cloud key": 1, "e-mail address": 1}


def test_unreadable_files_are_counted(packages, tmp_path):
    (packages / "package0" / "gone.py").symlink_to(packages / "nowhere.py")
    write(packages / "package0" / "latin.py", module(1).encode() + b"# \xe9\n")
    report = build_corpus(recipe_of(sources=[source(packages)]), tmp_path / "out", 1, QUIET)
    assert report["dropped"]["unreadable"] == 1
    assert report["dropped"]["not UTF-8"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": [{"kind": "folder", "path": "/nowhere/at-all"}]}, "at-all: there is no /nowhere/at-all"),
        ({"licences": ["Zlib"]}, r"nothing is left of 41 texts to train on \(40 licence not allowed"),
        ({"holdout": {"share": 0.999999}}, "set holdout.by to document"),
        ({"tokenizer": {"vocabulary": 90000}}, "90000 were asked for; set tokenizer.vocabulary lower"),
    ],
)
def test_an_empty_corpus_says_why(packages, tmp_path, change, message):
    recipe = recipe_of(**({"sources": [source(packages)]} | change))
    with pytest.raises(RequestError, match=message):
        build_corpus(recipe, tmp_path / "out", 1, QUIET)


def test_a_folder_without_files_says_so(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="hold no files"):
        build_corpus(recipe_of(sources=[source(tmp_path, path=str(tmp_path / "empty"))]), tmp_path / "out", 1, QUIET)


def test_the_recipe_is_saved_as_it_was_resolved(packages, tmp_path, pictures):
    import yaml

    build_corpus(recipe_of(sources=[source(packages)], seed=3), tmp_path / "out", 1, QUIET)
    saved = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert saved["seed"] == 3
    assert saved["rules"]["max_kb"] == 100
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert saved["made"]["fingerprints"] == report["fingerprints"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<path") > 20
    assert "licence unknown" in page
