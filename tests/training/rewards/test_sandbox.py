"""The sandbox against code that means harm, and rewards against code that means to be paid for nothing.

The harm is real: these tests run the attacks. Without bubblewrap they are skipped, all but those of what then happens.
"""
# ruff: noqa: E501  (a candidate's code is easier to read on one line)

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.rewards import sandbox
from training.rewards.pool import RewardPool
from training.rewards.runner import plain
from training.rewards.sandbox import Limits, SandboxError
from training.rewards.tests import Outcome, Test, answer_reward, infill_reward, read_test, run_tests, unpack

needs_sandbox = pytest.mark.skipif(sandbox.why_not() is not None, reason=str(sandbox.why_not()))
QUICK = Limits(seconds=1.5)
ADD = "def add(a, b):\n    return a + b\n"


def outcomes(code: str, *tests: str | Test, **options) -> list[Outcome]:
    return run_tests(code, [read_test(test) if isinstance(test, str) else test for test in tests], **options)


def passed(code: str, *tests: str | Test, **options) -> list[bool]:
    return [outcome.passed for outcome in outcomes(code, *tests, **options)]


def value(code: str, expression: str, **options) -> str:
    """What an expression gives inside: the value as text, or why there is none."""
    (outcome,) = outcomes(code, Test("value", expression, object()), **options)
    return outcome.detail or outcome.why


# What tests mean


@needs_sandbox
def test_each_test_has_its_own_outcome():
    assert outcomes(
        ADD,
        "assert add(1, 2) == 3",
        "assert add(1, 2) == 4",
        "assert add(1, 'x') == 3",
        "while True: pass",
        "assert add([1], (2,)) == [1]",
        "assert 2 < add(1, 2)",
        "x = add(1, 2)\nassert x == 3\n",
        "assert add(1, 2) == 3 and add(0, 0) == 1",
        limits=QUICK,
    ) == [
        Outcome(True),
        Outcome(False, "wrong", "3"),
        Outcome(False, "error", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
        Outcome(False, "timeout"),
        Outcome(False, "error", 'TypeError: can only concatenate list (not "tuple") to list'),
        Outcome(True),
        Outcome(True),
        Outcome(False, "error", "AssertionError"),
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert f(1) == 2", Test("value", "f(1)", 2)),
        ("assert {'a': [1]} == f(1), 'why'", Test("value", "f(1)", {"a": [1]})),
        ("assert f(1) is None", Test("value", "f(1)", None, "is")),
        ("assert 3 < f(1)", Test("value", "f(1)", 3, ">")),
        ("assert 'a' in f(1)", Test("value", "f(1)", "a", "has")),
        ("assert not f(1)", Test("value", "f(1)", False, "truth")),
        ("assert isinstance(f(1), int)", Test("value", "isinstance(f(1), int)", True, "truth")),
        ("assert f(1) == g(2)", Test("run", "assert f(1) == g(2)")),
        ("assert 1 < f(1) < 3", Test("run", "assert 1 < f(1) < 3")),
        ("assert f(1) is 5", Test("run", "assert f(1) is 5")),
        ("x = 1\nassert x", Test("run", "x = 1\nassert x")),
        ("assert (", Test("run", "assert (")),
    ],
)
def test_what_an_assertion_expects_stays_outside(source, expected):
    assert read_test(source) == expected


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=3), max_size=4)
        | st.frozensets(st.integers(), max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(values)
def test_plain_data_comes_back_as_it_was(value):
    back = unpack(plain(value))
    assert back == value
    assert repr(type(back)) == repr(type(value))


def test_a_subclass_counts_as_the_data_that_it_holds():
    class Any(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

        def __add__(self, other):
            return 42

    assert unpack(plain(Any(7))) == 7
    with pytest.raises(TypeError, match="no plain value"):
        plain(object())


@needs_sandbox
def test_a_session_shows_what_it_shows():
    code = "import os\ndef f(x):\n    print('on', x)\n    return {'x': x}\n"
    tests = [
        Test("display", "f(1)\n", "on 1\n{'x': 1}\n"),
        Test("display", "y['x']\n", "5\n", before=("y = f(5)\n",)),
        Test("display", "f(1)\n", "{'x': 1}\n"),
        Test(
            "display",
            "f()\n",
            "Traceback (most recent call last):\n    ...\nTypeError: f() missing 1 required positional argument: 'x'\n",
        ),
        Test("display", "f(1)\n", "Traceback (most recent call last):\nTypeError: no\n"),
    ]
    assert passed(code, *tests) == [True, True, False, True, False]


# Attacks on the reward


CHEATS = {
    "exit": "import os, sys\nos._exit(0)\n",
    "system exit": "raise SystemExit(0)\n",
    "exit in the middle": "import os\ndef add(a, b):\n    os._exit(0)\n",
    "equal to everything": "class A(int):\n    def __eq__(self, o): return True\n    def __bool__(self): return True\n"
    "def add(a, b): return A(0)\n",
    "repr of the answer": "class A:\n    def __repr__(self): return '3'\n    def __eq__(self, o): return True\ndef add(a, b): return A()\n",
    "patched builtins": "import builtins\nbuiltins.AssertionError = type('E', (BaseException,), {})\n"
    "builtins.eval = lambda *a: 3\nbuiltins.exec = lambda *a: None\nbuiltins.compile = lambda *a, **k: None\n"
    "def add(a, b): return None\n",
    "patched json and os": 'import json, os\njson.dumps = lambda *a, **k: \'["token", "x"]\'\nos.write = lambda *a: 0\n'
    "def add(a, b): return None\n",
    "prints the marker": "print('passed' * 100, flush=True)\nimport os\n"
    'for n in (1, 2, 3, 4, 5, 6):\n    try: os.write(n, b\'\\0\\0\\0\\x11["token", "pass"]\')\n    except OSError: pass\n'
    "def add(a, b): return None\n",
    "answers with a true value": "import os, json\nraw = json.dumps(['value', ['v', True]]).encode()\n"
    "for n in range(3, 20):\n    try: os.write(n, len(raw).to_bytes(4, 'big') + raw)\n    except OSError: pass\n",
    "kills everything": "import os, signal\nos.kill(-1, signal.SIGKILL)\n",
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n",
    "stops its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nos._exit(0)\n",
    "replaces itself": "import os\nos.execv('/bin/true', ['true'])\n",
    "exit handler": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return None\n",
    "tracer": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\ndef add(a, b): return None\n",
}


@needs_sandbox
@pytest.mark.parametrize("name", CHEATS)
def test_nothing_but_the_right_answer_is_paid(name):
    tests = ["assert add(1, 2) == 3", "x = add(1, 2)\nassert x == 3", "assert 3 == add(1, 2)", "assert add(0, 9) == 9"]
    limits = Limits(seconds=1.0)
    assert not any(passed(CHEATS[name], *tests, limits=limits))
    assert all(passed(ADD, *tests))


@needs_sandbox
@pytest.mark.xfail(strict=True, reason="code in the same interpreter can find the token; only values are proof")
def test_a_candidate_that_walks_frames_is_not_paid():
    code = """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame is not None:
        if "answer" in frame.f_locals and "test" in frame.f_locals:
            frame.f_locals["write"](frame.f_locals["answer"], ["token", frame.f_locals["test"]["token"]])
        frame = frame.f_back
"""
    assert passed(code, "x = add(1, 2)\nassert x == 3") == [False]


@needs_sandbox
def test_one_test_leaves_nothing_for_the_next():
    code = (
        "import os\n"
        "def add(a, b):\n"
        "    if os.path.exists('/tmp/seen'): return 0\n"
        "    if a == 5 and os.fork() == 0:\n"
        "        os.setsid()\n"
        "        while True: pass\n"
        "    return a + b\n"
    )
    tests = ["assert add(5, 1) == 6", "assert add(1, 1) == 2"]
    count = Test("value", "len([1 for p in range(2, 400) if alive(p)])", 0, "<=")
    alive = "def alive(p):\n    try: os.kill(p, 0)\n    except OSError: return False\n    return p not in (os.getpid(), os.getppid())\n"
    assert passed(code + alive, *tests, count) == [True, True, True]


# Attacks on the machine


@needs_sandbox
def test_the_home_folder_and_our_code_are_not_there(tmp_path):
    (tmp_path / "secret").write_text("s")
    probe = "import os\ndef see(p):\n    return os.path.exists(p) and bool(os.listdir(p) if os.path.isdir(p) else 1)\n"
    for path in (
        tmp_path,
        Path(__file__).parent,
        Path.home() / ".bashrc",
        Path.home() / ".ssh",
        "/etc/passwd",
        "/proc",
        "/sys",
    ):
        assert passed(probe, Test("value", f"see({str(path)!r})", False)) == [True], path


@needs_sandbox
@pytest.mark.parametrize(
    "path", ["/runner.py", "/usr/bin/x", "/x", "/etc/x", "/dev/x", sys.base_prefix + "/x", "/var/x"]
)
def test_nothing_but_the_small_disk_can_be_written(path):
    code = "def put(p):\n    open(p, 'w').write('x')\n    return 'written'\n"
    assert value(code, f"put({path!r})").startswith(
        ("PermissionError", "OSError: [Errno 30] Read-only", "FileNotFoundError")
    )
    assert passed(code, Test("value", "put('/tmp/x')", "written")) == [True]


@needs_sandbox
def test_the_small_disk_is_small():
    code = "def fill(n):\n    for i in range(n):\n        open(f'/tmp/{i}', 'wb').write(bytes(4 << 20))\n    return n\n"
    assert "No space left" in value(code, "fill(20)")
    assert value("def big():\n    open('/tmp/x', 'wb').write(bytes(9 << 20))\n", "big()") != "None"


@needs_sandbox
def test_there_is_no_network():
    """Not even this machine: a server that does listen is not reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reached = threading.Event()
        port = server.getsockname()[1]
        code = f"import socket\ndef call():\n    socket.create_connection(('127.0.0.1', {port}), 1)\n    return 'reached'\n"
        assert "Errno" in value(code, "call()")  # refused or unreachable, not a module that is missing
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        assert not reached.is_set()


@needs_sandbox
def test_a_fork_bomb_ends_with_its_test():
    code = "import os\ndef bomb():\n    while True:\n        os.fork()\n"
    (bomb, after) = outcomes(code + ADD, "assert bomb() == 1", "assert add(1, 2) == 3", limits=QUICK)
    assert bomb.why in ("error", "timeout", "exit")
    assert after.passed


@needs_sandbox
def test_processes_are_counted():
    code = "import os, time\ndef many():\n    for n in range(100):\n        if os.fork() == 0:\n            time.sleep(60)\n"
    assert "BlockingIOError" in value(code, "many()")


@needs_sandbox
def test_a_huge_allocation_fails():
    assert "MemoryError" in value("def big():\n    return len(bytes(8 << 30))\n", "big()")


@needs_sandbox
def test_endless_output_is_cut():
    code = "import sys\ndef talk():\n    while True:\n        print('x' * 1000)\n"
    assert outcomes(code, "assert talk() == 1", limits=QUICK)[0].why == "timeout"
    assert outcomes(code, Test("display", "talk()\n", "x\n"), limits=QUICK)[0].passed is False
    large = outcomes("def f():\n    return 'x' * 50_000_000\n", Test("value", "f()", "x"))[0]
    assert (large.passed, large.detail) == (False, "too much output")


@needs_sandbox
def test_time_is_taken_by_the_wall_and_by_the_processor():
    assert outcomes("", "import time; time.sleep(60)", limits=QUICK)[0].why == "timeout"
    assert outcomes("while True: pass", "assert 1 == 1", limits=QUICK)[0].why == "timeout"


@needs_sandbox
def test_it_is_nobody_without_rights():
    code = "import os\ndef who():\n    return [os.getuid() != 0, os.geteuid() != 0, os.getgid() != 0, os.getgroups()]\n"
    (groups,) = [value(code, "who()")]
    assert groups.startswith("[True, True, True, [")
    assert "PermissionError" in value("import os\n", "os.setuid(0)")
    assert "PermissionError" in value("import os\n", "os.chroot('/tmp')")
    mount = "import ctypes\ndef m():\n    return ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, 0)\n"
    assert value(mount, "m()") == "-1"


@needs_sandbox
def test_only_its_own_processes_are_there():
    code = "import os\ndef peers():\n    found = 0\n    for p in range(1, 5000):\n        try: os.kill(p, 0); found += 1\n        except ProcessLookupError: pass\n        except PermissionError: found += 1\n    return found\n"
    assert int(value(code, "peers()")) <= 4


@needs_sandbox
def test_signals_do_not_reach_us():
    pid = os.getpid()
    code = f"import os, signal\ndef hit():\n    os.kill({pid}, signal.SIGKILL)\n"
    if pid > 10:
        assert "ProcessLookupError" in value(code, "hit()")


@needs_sandbox
def test_packages_can_be_lent(tmp_path):
    tmp_path.chmod(0o755)  # inside, it is read by another user
    (tmp_path / "lent").mkdir()
    (tmp_path / "lent" / "__init__.py").write_text("VALUE = 5\n")
    assert passed("import lent\n", "assert lent.VALUE == 5", packages=[tmp_path]) == [True]
    assert passed("import lent\n", "assert lent.VALUE == 5") == [False]


# Without a sandbox


@pytest.fixture
def no_bubblewrap(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.why_not.cache_clear()
    yield
    sandbox.why_not.cache_clear()


def test_without_bubblewrap_nothing_runs_and_it_says_what_to_install(no_bubblewrap):
    with pytest.raises(SandboxError, match=r"apt install bubblewrap.*--unsafe-exec"):
        run_tests(ADD, [read_test("assert add(1, 2) == 3")])
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        RewardPool(1)


def test_where_namespaces_are_forbidden_it_says_so(no_bubblewrap, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(SandboxError, match=r"may not make namespaces here .*No permissions"):
        run_tests(ADD, [read_test("assert add(1, 2) == 3")])


def test_unsafe_runs_without_one(no_bubblewrap):
    tests = ["assert add(1, 2) == 3", "assert add(1, 2) == 4", "while True: pass"]
    found = run_tests(ADD, [read_test(test) for test in tests], QUICK, unsafe=True)
    assert [(outcome.passed, outcome.why) for outcome in found] == [(True, ""), (False, "wrong"), (False, "timeout")]


# Rewards


@needs_sandbox
def test_rewards_weigh_form_and_tests():
    tests = [read_test("assert add(1, 2) == 3"), read_test("assert add(1, 2) == 4")]
    good = answer_reward(f"Here:\n```python\n{ADD}```\n", tests)
    assert (good.form, good.tests, good.total) == (1.0, 0.5, 1.5)
    assert answer_reward("```python\ndef add(:\n```", tests).total == 0.25
    assert answer_reward(ADD, tests).total == 0.0
    prefix, suffix = "def add(a, b):\n    return ", "\n\n\ndef other():\n    pass\n"
    assert infill_reward(prefix, "a + b", suffix, tests[:1]).total == 2.5
    assert infill_reward(prefix, "a - b", suffix, tests[:1]).total == 0.5
    assert infill_reward(prefix, "a +", suffix, tests[:1]).total == 0.0


@needs_sandbox
def test_a_pool_gives_results_in_order():
    samples = [(f"```python\ndef f():\n    return {n % 3}\n```", [read_test("assert f() == 1")]) for n in range(12)]
    with RewardPool(3) as pool:
        rewards = list(pool.map(answer_reward, samples))
    assert [reward.tests for reward in rewards] == [float(n % 3 == 1) for n in range(12)]


@needs_sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root only can")
def test_it_works_for_a_user_who_is_not_root(tmp_path):
    """With a system Python, which any user can read; the sandbox is then made of a user namespace."""
    python = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()), None)
    if python is None:
        pytest.skip("no Python that another user can read")
    script = f"""
import importlib.util, sys, types
protocol = types.ModuleType('model_runtime.protocol')
protocol.DiffillError = Exception
sys.modules['model_runtime'], sys.modules['model_runtime.protocol'] = types.ModuleType('model_runtime'), protocol
import pathlib
source = pathlib.Path({str(tmp_path / "sandbox.py")!r})
spec = importlib.util.spec_from_file_location('sandbox', source)
module = importlib.util.module_from_spec(spec)
sys.modules['sandbox'] = module
spec.loader.exec_module(module)
with module.Sandbox({ADD!r}) as box:
    print(box.ask({{'kind': 'value', 'source': 'add(1, 2)'}}))
    print(box.ask({{'kind': 'value', 'source': '__import__("os").fork'}})[0])
    print(box.ask({{'kind': 'run', 'source': 'import os, time\\nfor n in range(100):\\n    if os.fork() == 0: time.sleep(60)', 'token': 't'}}))
"""
    for name in ("sandbox.py", "runner.py"):
        (tmp_path / name).write_text((Path(sandbox.__file__).parent / name).read_text())
    for path in (tmp_path, *tmp_path.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    done = subprocess.run(
        [python, "-I", "-c", script], capture_output=True, text=True, user=65534, group=65534, extra_groups=[], cwd="/"
    )
    if "may not make namespaces" in done.stderr:
        pytest.skip("other users may not make namespaces here")
    assert done.stderr == ""
    first, second, third = done.stdout.splitlines()
    assert first == "['value', ['i', '0x3']]"
    assert second == "'error'" or second == "error"
    assert "BlockingIOError" in third
