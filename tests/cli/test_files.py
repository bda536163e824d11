"""Reading text without losing a byte, and replacing a file in one step or not at all."""

import errno
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_runtime.commands.files import (
    MAX_BYTES,
    decode,
    read_source,
    replace_file,
)
from model_runtime.protocol import RequestError

posix_only = pytest.mark.skipif(os.name != "posix", reason="modes, links and limits of POSIX")


@pytest.fixture
def source(tmp_path):
    """A file of three line ends, read."""
    path = tmp_path / "it.py"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\nc\r")
    return read_source(str(path))


def files_beside(source):
    return sorted(path.name for path in source.path.parent.iterdir())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_decoding_keeps_every_byte(text):
    assert decode(text.encode(), "it") == text


@given(text=st.text(st.sampled_from("a\n\r\t\ufeff👩é\u0301\u2028\x0c"), min_size=1))
def test_writing_what_was_read_changes_no_byte(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("round") / "it.txt"
    path.write_bytes(text.encode())
    source = read_source(str(path))
    replace_file(source, source.text)
    assert path.read_bytes() == text.encode()


def test_a_byte_order_mark_is_the_first_character(source):
    assert source.text == "\ufeffa\r\nb\nc\r"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty; there is nothing to fill from"),
        (b"ab\0c", "is a binary file (a zero byte at offset 2); give UTF-8 text"),
        (b"ab\xff", "is not UTF-8 (byte 0xff at offset 2); give UTF-8 text"),
        (b"\xed\xa0\x80", "is not UTF-8 (byte 0xed at offset 0); give UTF-8 text"),
        (b"a" * 20_000_000, "has 20.0 MB; files of at most 5 MB can be filled"),
    ],
)
def test_what_is_not_a_text_is_refused(tmp_path, data, said):
    path = tmp_path / "it.py"
    path.write_bytes(data)
    with pytest.raises(RequestError) as refused:
        read_source(str(path))
    assert str(refused.value) == f"{path} {said}"


def test_the_largest_file_is_read(tmp_path):
    path = tmp_path / "it.py"
    path.write_bytes(b"a" * MAX_BYTES)
    assert len(read_source(str(path)).text) == MAX_BYTES


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"^there is no file .*missing.py$"):
        read_source(str(tmp_path / "missing.py"))
    with pytest.raises(RequestError, match=r"is a folder; give a file$"):
        read_source(str(tmp_path))
    with pytest.raises(RequestError, match=r"^there is no file '.*a\\nb'$"):
        read_source(str(tmp_path / "a\nb"))
    with pytest.raises(RequestError, match=r"^cannot read a+: "):
        read_source("a" * 5000)


@posix_only
def test_a_pipe_or_device_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null"):
        with pytest.raises(RequestError, match=r"is not a regular file; give a file, or - for standard input"):
            read_source(str(path))


def test_replacing_writes_the_bytes_and_leaves_no_other_file(source):
    replace_file(source, "\ufeffa\r\nB👩\nc\r")
    assert source.path.read_bytes() == "\ufeffa\r\nB👩\nc\r".encode()
    assert files_beside(source) == ["it.py"]


@posix_only
@pytest.mark.parametrize("mode", [0o755, 0o600, 0o664, 0o4711])
def test_replacing_keeps_the_mode(source, mode):
    source.path.chmod(mode)
    replace_file(source, "new")
    assert stat.S_IMODE(source.path.stat().st_mode) == mode


@posix_only
def test_replacing_follows_links_to_the_file(source, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.py"
    link.symlink_to("../it.py")
    replace_file(read_source(str(link)), "new")
    assert link.is_symlink()
    assert not source.path.is_symlink()
    assert source.path.read_bytes() == b"new"


@pytest.mark.parametrize("mode", [0o444, 0o555, 0o400])
def test_a_read_only_file_stays_so_whoever_runs(source, mode):
    source.path.chmod(mode)
    with pytest.raises(RequestError, match=r"it.py is read-only; make it writable or use --stdout$"):
        replace_file(source, "new")
    source.path.chmod(0o644)
    assert source.path.read_bytes() == source.text.encode()


def test_standard_input_has_no_file_to_write():
    with pytest.raises(RequestError, match=r"^--write needs a file; with - use --stdout$"):
        read_source("-", to_write=True)


def test_a_file_that_changed_meanwhile_is_left_alone(source):
    source.path.write_bytes(b"saved by an editor")
    with pytest.raises(RequestError, match=r"has changed since it was read; nothing was written$"):
        replace_file(source, "new")
    assert source.path.read_bytes() == b"saved by an editor"


def test_a_file_that_went_away_is_not_made_anew(source):
    source.path.unlink()
    with pytest.raises(RequestError, match=r"^cannot write "):
        replace_file(source, "new")
    assert files_beside(source) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_and_nothing_else(source, monkeypatch, step):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(RequestError, match=r"cannot write .*it.py: No space left on device; it is unchanged$"):
        replace_file(source, "new")
    assert source.path.read_bytes() == source.text.encode()
    assert files_beside(source) == ["it.py"]


@posix_only
def test_a_write_that_stops_halfway_leaves_the_file_and_nothing_else(source):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(RequestError, match=r"it is unchanged$"):
            replace_file(source, "a" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert source.path.read_bytes() == source.text.encode()
    assert files_beside(source) == ["it.py"]


def test_an_interrupt_while_writing_leaves_the_file_and_nothing_else(source, monkeypatch):
    def interrupt(_handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(source, "new")
    assert source.path.read_bytes() == source.text.encode()
    assert files_beside(source) == ["it.py"]
