"""What runs inside the sandbox: executes candidate code and one test after the other, each in a process of its own.

Only the standard library, and nothing of ours: this file is handed to an isolated interpreter. It reads frames (four
bytes of length, then marshalled data) and answers each (four bytes of length, then JSON) where no candidate can write:

    {"code", "name", "over", "path", "uid", "limits"}   once; "over": put it over the module of that name
    {"kind": "value", "source"}                 the value of an expression, as plain data
    {"kind": "display", "before", "source"}     what a session would show for the last piece of source
    {"kind": "run", "source", "token"}          the token, when nothing was raised

What is expected of a value or a display never comes in here, so that a candidate cannot read it anywhere.
"""

# Starting is most of the work of a sample: only modules that are there already, or cost next to nothing, come first.
import marshal
import os
import resource
import select
import sys
import time
from _json import encode_basestring_ascii

KILL = 9
MAX_DEPTH = 50
SAME = "== of data"
EXACT = (dict, list, tuple, set, frozenset, str, bytes, int, float)


def read_frame(descriptor):
    head = read_exactly(descriptor, 4)
    return None if head is None else marshal.loads(read_exactly(descriptor, int.from_bytes(head, "big")))


def read_exactly(descriptor, count):
    parts = []
    while count:
        part = os.read(descriptor, min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def dump(value):
    """Nested lists of texts, booleans and None as JSON."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    return "[" + ",".join([dump(item) for item in value]) + "]"


def write_frame(descriptor, value):
    write_raw(descriptor, dump(value).encode())


def write_raw(descriptor, raw):
    raw = len(raw).to_bytes(4, "big") + raw
    while raw:
        raw = raw[os.write(descriptor, raw) :]


def plain(value, depth=0):
    """`value` as tagged JSON. Subclasses count as their base's data: what they override is not asked."""
    if depth > MAX_DEPTH:
        raise TypeError("too deep")
    kind = type(value)
    if value is None or kind is bool:
        return ["v", value]
    base = kind if kind in EXACT else next((base for base in EXACT if isinstance(value, base)), None)
    if base is int:
        return ["i", hex(int.__add__(value, 0))]
    if base is float:
        return ["f", float.hex(value)]
    if base is str:
        return ["s", str.__str__(value)]
    if base is bytes:
        return ["b", bytes.hex(value)]
    if base is dict:
        return ["d", [[plain(k, depth + 1), plain(v, depth + 1)] for k, v in dict.items(value)]]
    if base is not None:
        items = base.__iter__(value)  # type: ignore[union-attr]
        return [base.__name__[:3], [plain(item, depth + 1) for item in items]]
    if kind is complex:
        return ["c", [value.real.hex(), value.imag.hex()]]
    raise TypeError(f"a {kind.__name__} is no plain value")


def same(found, expected):
    """`found == expected` without asking a candidate's own class: data is compared as data."""
    converted = []
    for value in (found, expected):
        try:
            plain(value)
            converted.append(True)
        except Exception:
            converted.append(False)
    if all(converted):
        return data(found) == data(expected)
    return converted[0] == converted[1] and found == expected


def data(value):
    """`value`, which is plain, with its subclasses made what they are subclasses of."""
    kind = type(value)
    base = kind if kind in EXACT else next((base for base in EXACT if isinstance(value, base)), None)
    if base is dict:
        return {data(key): data(item) for key, item in dict.items(value)}
    if base in (list, tuple, set, frozenset):
        return base(data(item) for item in base.__iter__(value))
    if base is int and kind is not bool:
        return int.__add__(value, 0)
    if base is float:
        return float.__add__(value, 0.0)
    if base is str:
        return str.__str__(value)
    return bytes.__add__(value, b"") if base is bytes else value


def compile_test(source):
    """Code in which every `A == B` of an assertion calls `same`, by a name that no source can spell."""
    import ast

    class Comparisons(ast.NodeTransformer):
        def visit_Compare(self, node):
            self.generic_visit(node)
            if len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
                call = ast.Call(ast.Name(SAME, ast.Load()), [node.left, node.comparators[0]], [])
                return ast.copy_location(call, node)
            return node

    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            node.test = Comparisons().visit(node.test)
    return compile(ast.fix_missing_locations(tree), "<test>", "exec")


def describe(error):
    """An exception as the last line of a traceback has it."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{name}: {text}" if text else name


class Capped:
    """Standard output of a session, up to a number of characters."""

    def __init__(self, limit):
        self.parts, self.left = [], limit

    def write(self, text):
        self.parts.append(text[: self.left])
        self.left -= len(text)
        if self.left < 0:
            raise OverflowError("too much output")
        return len(text)

    def flush(self):
        pass


def show(sources, module, limit):
    """What the last of `sources` prints and displays; the earlier ones run before it."""
    out = Capped(limit)

    def display(value):
        if value is not None:
            module.__dict__["_"] = value
            out.write(f"{value!r}\n")

    for number, source in enumerate(sources):
        last = number == len(sources) - 1
        if last:
            out.parts.clear()
        sys.stdout, sys.displayhook = out, display
        try:
            exec(compile(source, "<example>", "single"), module.__dict__)
        except Exception as error:
            if last:
                return ["raised", "".join(out.parts), describe(error)]
    return ["shown", "".join(out.parts), ""]


def replace_functions(real, module):
    """Makes the functions of an imported module do what those of the same name in `module` do, whoever holds them."""
    function = type(replace_functions)
    for name, new in list(module.__dict__.items()):
        old = real.__dict__.get(name)
        if type(new) is function and type(old) is function and not new.__closure__ and not old.__closure__:
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def import_real(job):
    """Imports the module that the code is a version of, once for all tests; what cannot be imported is left alone."""
    try:
        __import__(job["name"])
    except BaseException:
        sys.modules.pop(job["name"], None)


def child(job, test, answer, write=write_frame, convert=plain, showing=show, describing=describe):
    """Executes the candidate's code, then the test; whatever happens, at most one frame is written to `answer`."""
    # taken before the candidate's code runs, which may replace whatever it can reach
    execute, evaluate, compiling, kind, source, comparing = exec, eval, compile, test["kind"], test["source"], same
    try:
        compiled = compile_test(source) if kind == "run" else ""
        module = type(sys)(job["name"])
        module.__dict__["__package__"] = job["name"].rpartition(".")[0]
        module.__dict__["__file__"] = "candidate.py"
        real = sys.modules.get(job["name"]) if job["over"] else None
        if real is None:
            sys.modules[job["name"]] = module
        sys.modules.pop("__main__", None)  # that is this file
        execute(compiling(job["code"], "candidate.py", "exec"), module.__dict__)
        if real is not None:
            replace_functions(real, module)
        if kind == "value":
            found = convert(evaluate(compiling(source, "<test>", "eval"), module.__dict__))
            write(answer, ["value", found])
        elif kind == "display":
            write(answer, showing([*test["before"], source], module, job["limits"]["output"]))
        else:
            names = dict(module.__dict__, **{SAME: comparing})
            execute(compiled, names)
            write(answer, ["token", test["token"]])
    except BaseException as error:
        write(answer, ["error", describing(error)[:500]])


def protect():
    """Makes this process and its children unreadable to one another: no ptrace. Changing the user does the same."""
    import ctypes

    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def restrict(job):
    """Gives up rights and sets the limits; they hold for every child."""
    limits, uid = job["limits"], job["uid"]
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    for name, value in (
        ("RLIMIT_AS", limits["memory"]),
        ("RLIMIT_FSIZE", limits["file"]),
        ("RLIMIT_NOFILE", limits["files"]),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", limits["processes"]),
    ):
        if value is not None:
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))


def run_one(job, test, inner, commands, answers):
    """Forks, waits for an answer within the time, and leaves nothing of the child behind."""
    seconds, most = job["limits"]["seconds"], job["limits"]["output"] * 8
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for descriptor in (commands, answers, reading):
            os.close(descriptor)
        cpu = int(seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        try:
            child(job, test, writing)
        finally:
            os._exit(0)
    os.close(writing)
    deadline, raw, result = time.monotonic() + seconds, b"", None
    while result is None:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            result = b'["timeout"]'
            break
        part = os.read(reading, 1 << 16)
        raw += part
        if len(raw) > most:
            result = b'["error","too much output"]'
        elif len(raw) >= 4 and len(raw) >= 4 + int.from_bytes(raw[:4], "big"):
            result = raw[4 : 4 + int.from_bytes(raw[:4], "big")]
        elif not part:
            result = b'["exit"]'
    os.close(reading)
    sweep(pid, inner)
    return result


def sweep(pid, inner):
    """Kills the child and what it started: in a process namespace everything but this process."""
    for kill, target in ((os.killpg, pid), (os.kill, -1)):
        if kill is os.killpg or inner:
            try:
                kill(target, KILL)
            except (ProcessLookupError, PermissionError):
                continue  # contextlib.suppress would need one more import
    while True:
        try:
            os.waitpid(-1 if inner else pid, 0)
        except ChildProcessError:
            return
        if not inner:
            return


def main():
    commands, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    job = read_frame(commands)
    inner = job["inner"]
    sys.path[:0] = job["path"]
    if inner and job["uid"] is None:
        protect()
    restrict(job)
    os.chdir(job["folder"])
    if job["over"]:
        import_real(job)
    write_frame(answers, ["ready"])
    while (test := read_frame(commands)) is not None:
        write_raw(answers, run_one(job, test, inner, commands, answers))


if __name__ == "__main__":
    main()
