"""Fetching models from a server that plays the hub: whole, broken off, damaged, refused; and what is then on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

pytest.importorskip("torch")

from hub import COMMIT, Hub
from synthetic import checkpoint

from model_runtime.catalog import hub as remote
from model_runtime.catalog import store
from model_runtime.catalog.catalog import find_model
from model_runtime.catalog.entries import BY_NAME, ENTRIES
from model_runtime.catalog.memory import fit
from model_runtime.catalog.pull import import_folder, pull
from model_runtime.cli import main
from model_runtime.models.families import FAMILIES, MANIFEST, read_facts
from model_runtime.protocol import ModelError, RequestError

NAME = "dream-coder-7b-base"
ENTRY = BY_NAME[NAME]
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A tiny checkpoint in the layout of the repository, with its code and its card."""
    folder = checkpoint(tmp_path_factory.mktemp("source"), "Dream-Coder-v0-Base-7B")
    (folder / "README.md").write_text("# A model\n\nLicense: Apache-2.0\n")
    return folder


@pytest.fixture
def hub(source, tmp_path, monkeypatch):
    """The hub, asked instead of the real one; a store of the test's own; the licence accepted."""
    running = Hub({ENTRY.repository: source})
    monkeypatch.setenv("HF_ENDPOINT", running.address)
    monkeypatch.setenv("DIFFILL_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(remote.fetch, "__defaults__", (lambda seconds: None,))
    store.accept(ENTRY.repository, ENTRY.licence)
    yield running
    running.close()


def told(run) -> str:
    """The sentence of what `run` refuses."""
    with pytest.raises((ModelError, RequestError)) as error:
        run()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_is_fetched_checked_and_found_by_its_name(hub, source):
    seen = []
    folder = pull(NAME, lambda *progress: seen.append(progress))
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in source.iterdir() if path.suffix != ".py"} | {MANIFEST}  # no code
    assert all((folder / name).read_bytes() == (source / name).read_bytes() for name in names - {MANIFEST})
    assert seen[-1][1] == seen[-1][2] == sum((source / name).stat().st_size for name in names - {MANIFEST})
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    manifest = store.stored(NAME)
    assert (manifest.repository, manifest.revision, manifest.family) == (ENTRY.repository, COMMIT, "Dream-Coder")
    assert find_model(NAME) == folder
    assert read_facts(folder).family == "Dream-Coder"
    assert store.verify(NAME) == []
    count = len(hub.asked)
    pull(NAME)  # once more fetches nothing
    assert len(hub.asked) == count


def test_what_breaks_off_goes_on_where_it_stopped(hub):
    hub.cut[WEIGHTS] = [1000, 2000, 1]
    folder = pull(NAME)
    assert [first for name, first in hub.asked if name == WEIGHTS] == [0, 1000, 3000, 3001]
    assert store.verify(NAME) == []
    assert read_facts(folder)


def test_a_server_that_cannot_go_on_sends_all_again(hub):
    hub.cut[WEIGHTS], hub.ranges = [1000], False
    seen = []
    pull(NAME, lambda *progress: seen.append(progress))
    assert store.verify(NAME) == []
    assert seen[-1][1] == seen[-1][2]


def test_a_connection_that_brings_nothing_is_given_up_and_the_part_is_no_model(hub):
    hub.cut[WEIGHTS] = [5000, *[0] * 20]
    assert "give the command again to go on" in told(lambda: pull(NAME))
    assert store.stored(NAME) is None
    assert "is not on this machine" in told(lambda: find_model(NAME))
    assert store.stored_names() == []
    hub.cut.clear()
    hub.asked.clear()
    pull(NAME)
    assert hub.asked == [(WEIGHTS, 5000)]  # the small files were there, and the beginning of the large one


def test_a_process_that_was_killed_goes_on_too(hub, tmp_path):
    """The extension's cancel button ends the process at once."""
    hub.held = {WEIGHTS}
    command = [sys.executable, "-m", "model_runtime", "models", "pull", NAME, "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ))
    assert hub.reached.wait(60)
    running.kill()
    running.communicate()
    hub.go.set()
    assert store.stored(NAME) is None
    pull(NAME)
    assert store.verify(NAME) == []


def test_what_arrives_damaged_is_not_kept(hub):
    hub.spoilt = {WEIGHTS}
    assert "arrived damaged" in told(lambda: pull(NAME))
    store.remove(NAME)
    hub.spoilt = {"vocab.json"}  # small files by git's hash
    assert "vocab.json arrived damaged" in told(lambda: pull(NAME))
    hub.spoilt = set()
    pull(NAME)
    assert store.verify(NAME) == []


def test_another_revision_starts_anew(hub, source, tmp_path):
    hub.cut[WEIGHTS] = [1000, *[0] * 20]
    told(lambda: pull(NAME))
    hub.cut.clear()
    hub.commit = COMMIT[::-1]
    hub.asked.clear()
    pull(NAME)
    assert (WEIGHTS, 0) in hub.asked
    assert store.stored(NAME).revision == COMMIT[::-1]


@pytest.mark.parametrize(
    ("status", "gated", "says"),
    [
        (401, False, "refuses access (401): set HF_TOKEN"),
        (403, False, "refuses access (403)"),
        (403, True, "asks for its terms to be accepted there"),
        (404, False, "is not there (404)"),
        (503, False, "cannot be read now (HTTP 503)"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, status, gated, says):
    hub.status, hub.gated = status, gated
    assert says in told(lambda: pull(NAME))


def test_a_revision_that_is_gone(hub):
    assert "has no revision gone" in told(lambda: pull(NAME, revision="gone"))


def test_no_network(hub, monkeypatch):
    hub.close()
    assert "cannot be reached" in told(lambda: pull(NAME))
    monkeypatch.setenv("HF_ENDPOINT", "http://a..b")  # no name of a host
    assert "http://a..b cannot be reached" in told(lambda: pull(NAME))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in told(lambda: pull(NAME))


def test_pickles_are_refused_before_anything_is_fetched(hub, source, tmp_path):
    folder = shutil.copytree(source, tmp_path / "pickled")
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    hub.folders[ENTRY.repository] = folder
    assert "a pickle, which can run code" in told(lambda: pull(NAME))
    assert hub.asked == []


def test_a_full_disk_is_seen_before_anything_is_fetched(hub, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10_000)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda path: usage)
    assert "make room" in told(lambda: pull(NAME))
    assert hub.asked == []


def test_two_at_once(hub):
    from filelock import FileLock

    with FileLock(store.models_directory() / f".{NAME}.lock"):
        assert "by another program" in told(lambda: pull(NAME))


def test_the_licence_is_shown_and_accepted_once(hub, capsys):
    store.accepted_path().unlink()
    assert main(["models", "pull", NAME]) == 2
    err = capsys.readouterr().err
    assert f"licence       {ENTRY.licence}: {ENTRY.terms} ({ENTRY.licence_url})\n" in err
    assert f" to {store.models_directory()}\n" in err
    assert "not on this machine" not in err  # one is fetching it
    assert "give --accept-license" in err
    assert hub.asked == []
    assert main(["models", "pull", NAME, "--accept-license", "--json"]) == 0
    *steps, done = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert done["done"] == NAME
    assert steps[-1]["done"] == steps[-1]["total"]
    assert main(["models", "remove", NAME]) == 0
    assert main(["models", "pull", NAME]) == 0  # not asked again
    assert "is in" in capsys.readouterr().out


def test_verify_names_what_is_wrong_and_remove_takes_it_away(hub, capsys):
    folder = pull(NAME)
    assert main(["models", "verify", NAME]) == 0
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-5] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    (folder / "merges.txt").unlink()
    capsys.readouterr()
    assert main(["models", "verify", NAME, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert len(report["problems"]) == 2
    assert main(["models", "remove", NAME]) == 0
    assert not folder.exists()
    assert main(["models", "remove", NAME]) == 2
    assert main(["models", "verify", NAME]) == 2


def test_listed_and_described(hub, capsys):
    assert main(["models", "list", "--json"]) == 0
    before = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(before) == {"embedded", *BY_NAME}
    assert (before[NAME]["installed"], before[NAME]["license"]) == (False, "Apache-2.0")
    assert before[NAME]["memory_bytes"]["nf4"] < before[NAME]["memory_bytes"]["bfloat16"]
    assert main(["models", "info", NAME]) == 0
    assert "diffill models pull" in capsys.readouterr().out
    pull(NAME)
    assert main(["models", "info", NAME, "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert (one["name"], one["family"], one["revision"]) == (NAME, "Dream-Coder", COMMIT)
    assert (one["license"], one["infills"], one["backends"]) == ("Apache-2.0", True, ["torch"])


def test_a_folder_is_imported_without_a_network(hub, source, tmp_path, capsys):
    hub.close()
    assert main(["models", "import", str(source), "--name", "mine"]) == 0
    folder = find_model("mine")
    assert (folder / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert not list(folder.glob("*.py"))
    assert store.verify("mine") == []
    assert "there is a model 'mine' already" in told(lambda: import_folder(source, "mine"))
    assert main(["models", "list"]) == 0
    assert "\nmine " in capsys.readouterr().out
    # under a catalog's name: only what is of its kind
    assert import_folder(source, NAME).name == NAME
    assert read_facts(find_model(NAME)).family == "Dream-Coder"
    assert "is of the family" in told(lambda: import_folder(source, "llada-8b-base"))


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_under_a_catalogs_name_needs_its_licence(hub, source, tmp_path, capsys, named):
    store.accepted_path().unlink()
    folder = shutil.copytree(source, tmp_path / ("folder" if named else NAME))
    command = ["models", "import", str(folder), *(["--name", NAME] if named else [])]
    assert main(command) == 2
    assert "give --accept-license" in capsys.readouterr().err
    assert store.stored(NAME) is None
    assert main([*command, "--accept-license"]) == 0
    assert store.stored(NAME).licence == ENTRY.licence


def test_a_snapshot_of_the_hubs_cache_is_imported(hub, source, tmp_path):
    home = tmp_path / "models--Dream-org--Dream-Coder-v0-Base-7B"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "blobs").mkdir()
    for path in source.iterdir():
        shutil.copy(path, home / "blobs" / f"blob-{path.name}")
        (snapshot / path.name).symlink_to(home / "blobs" / f"blob-{path.name}")
    folder = import_folder(snapshot)
    assert folder.name == "dream-coder-v0-base-7b"
    assert not (folder / WEIGHTS).is_symlink()


def test_what_cannot_be_imported_is_one_sentence(hub, source, tmp_path):
    assert "is no folder" in told(lambda: import_folder(tmp_path / "nowhere"))
    half = shutil.copytree(source, tmp_path / "half")
    (half / WEIGHTS).write_bytes((source / WEIGHTS).read_bytes()[:5000])
    assert "is cut short" in told(lambda: import_folder(half))
    assert store.stored_names() == []
    assert "not '../x'" in told(lambda: import_folder(source, "../x"))


def test_every_entry_of_the_catalog_says_what_it_is():
    families = {family.name for family in FAMILIES}
    for entry in ENTRIES:
        assert entry.family in families
        assert entry.terms
        assert entry.licence_url.startswith("https://")
        assert entry.revision is None or len(entry.revision) == 40
        sizes = entry.memory()
        assert sizes["nf4"] < sizes["int8"] < sizes["bfloat16"] < sizes["float32"]


@pytest.mark.parametrize(
    ("main_gb", "device_gb", "precision"),
    [(64, 24, "bfloat16"), (8, 12, "int8"), (8, 8, "nf4"), (64, None, "bfloat16"), (4, 4, None), (None, None, None)],
)
def test_what_fits(main_gb, device_gb, precision):
    room = [None if gb is None else gb * 10**9 for gb in (main_gb, device_gb)]
    assert fit(ENTRY.memory(), *room)[0] == precision
