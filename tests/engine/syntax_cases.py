"""Texts in every language with a grammar: fills that parse and fills that do not, and functions to find."""

from __future__ import annotations

# language → a text around a hole, a fill that parses there, and one that does not
FILLS = {
    "python": ("def area(w, h):\n    return ", "w * h", "w * (h", "\n\n\nprint(area(2, 3))\n"),
    "javascript": ("const area = (w, h) => {\n  return ", "w * h;", "w * h; }", "\n};\narea(2, 3);\n"),
    "typescript": ("function f(a: ", "Array<number>", "Array<number", "): void {\n  a;\n}\n"),
    "tsx": ("export const App = () => ", "<b>{name}</b>", "<b>{name}</b", ";\n"),
    "go": ("package m\n\nfunc f(a int) int {\n\t", "return a * 2", "return a *", "\n}\n"),
    "rust": ("fn f(a: &[u8]) -> usize {\n    ", "a.iter().count()", "a.iter(.count()", "\n}\n"),
    "java": ("class A {\n  int f(int a) {\n    ", "return a;", "return a", "\n  }\n}\n"),
    "c": ("int f(int a) {\n  ", "if (a) { a++; }", "if (a { a++; }", "\n  return a;\n}\n"),
    "cpp": ("template <class T> T f(T a) {\n  ", "return a < T{} ? T{} : a;", "return a < T{ ? T{} : a;", "\n}\n"),
}

# language → a text and, for each of its functions, (name, first characters, signature's end, body, last characters)
FUNCTIONS = {
    "python": (
        '''\
@cached
async def outer(a: dict = {"k": 1}) -> int:  # note
    """Says
    what."""  # noqa

    # first
    def inner(): return 1

    return inner()
    # last

class A(Base):
    x = lambda self: 1

    class B:
        @property
        def value(self) -> str:
            f"not a docstring"
            return self._value
def tight():pass
def described(): "text"; return 2
def undone():
    """Only words."""
''',
        [
            (
                "outer",
                "@cached\nasync",
                "-> int:",
                "# first\n    def inner(): return 1\n\n    return inner()\n    # last",
                "# last",
            ),
            ("outer.inner", "def inner", "inner():", "return 1", "return 1"),
            (
                "A.B.value",
                "@property",
                "-> str:",
                'f"not a docstring"\n            return self._value',
                "return self._value",
            ),
            ("tight", "def tight", "tight():", "pass", "pass"),
            ("described", "def described", "described():", "return 2", "return 2"),
            ("undone", "def undone", "undone():", "", 'words."""'),
        ],
    ),
    "javascript": (
        """\
export async function top(a) { return a; }
export const solo = async (x) => {
  await x;
};
const one = (x) => x + 1, two = function () { return 2 };
class K extends L {
  constructor() { super(); }
  static *gen() { yield 1 }
  field = () => ({ a: 1 })
}
const api = { go() {}, deep: { stop: function () { return 2 } } };
module.exports.zip = function () { return 1 };
items.map((x) => { function named() { return x } return named() });
""",
        [
            ("top", "export async", "top(a) {", "return a;", "}"),
            ("solo", "export const", "=> {", "await x;", "};"),
            ("one", "one = ", "=>", "x + 1", "+ 1"),
            ("two", "two = ", "() {", "return 2", "}"),
            ("K.constructor", "constructor", "() {", "super();", "}"),
            ("K.gen", "static *gen", "gen() {", "yield 1", "}"),
            ("K.field", "field", "() =>", "({ a: 1 })", "})"),
            ("api.go", "go()", "go() {", "", "{}"),
            ("api.deep.stop", "stop: function", "() {", "return 2", "}"),
            ("module.exports.zip", "module.", "() {", "return 1", "};"),
            ("named", "function named", "named() {", "return x", "}"),
        ],
    ),
    "typescript": (
        """\
namespace N { export function f<T>(x: T): T { return x; } }
abstract class Q<T> {
  abstract a(): void;
  b(this: Q<T>): void { return }
  c = async (x: number): Promise<void> => { x; };
}
declare function d(): void;
const half = (x: number): number => x / 2;
""",
        [
            ("N.f", "export function", "): T {", "return x;", "}"),
            ("Q.b", "b(this", "void {", "return", "}"),
            ("Q.c", "c = async", "=> {", "x;", "}"),
            ("half", "const half", "number =>", "x / 2", "/ 2;"),
        ],
    ),
    "tsx": (
        "export const App = () => { return <b>{x}</b>; };\n",
        [("App", "export const", "=> {", "return <b>{x}</b>;", "};")],
    ),
    "go": (
        """\
package m

func (s *Server[T]) Run(c Ctx) (err error) {
	return nil
}
func (*Plain) Name() string { return "x" }
func main() { f := func() {}; f() }
""",
        [
            ("Server.Run", "func (s", "error) {", "return nil", "}"),
            ("Plain.Name", "func (*Plain", "string {", 'return "x"', "}"),
            ("main", "func main", "main() {", "f := func() {}; f()", "}"),
        ],
    ),
    "rust": (
        """\
mod inner { pub fn f() -> i32 { 1 } }
impl<T: Clone> Stack<T> { pub fn push(&mut self, x: T) { self.v.push(x); } }
impl fmt::Display for Stack<Vec<T>> { fn fmt(&self) -> R { Ok(()) } }
trait Shape { fn area(&self) -> f32; fn name(&self) { } }
async fn go() { let c = |x| { x }; }
""",
        [
            ("inner.f", "pub fn", "i32 {", "1", "}"),
            ("Stack.push", "pub fn", ": T) {", "self.v.push(x);", "}"),
            ("Stack.fmt", "fn fmt", "R {", "Ok(())", "}"),
            ("Shape.name", "fn name", "self) {", " ", "}"),
            ("go", "async fn", "go() {", "let c = |x| { x };", "}"),
        ],
    ),
    "java": (
        """\
class A<T> {
  A() { super(); }
  @Override public <U> int f(U u) { return 1; }
  abstract void g();
  interface I { default void h() {} }
  enum E { X; int n() { return 1; } }
}
record R(int a) { R { check(a); } }
""",
        [
            ("A.A", "A()", "A() {", "super();", "}"),
            ("A.f", "@Override", "u) {", "return 1;", "}"),
            ("A.I.h", "default", "h() {", "", "{}"),
            ("A.E.n", "int n", "n() {", "return 1;", "}"),
            ("R.R", "R {", "R {", "check(a);", "}"),
        ],
    ),
    "c": (
        """\
static int *f(int a) { return 0; }
void (*handler(int s))(int) { return 0; }
int proto(void);
struct S { int x; };
""",
        [
            ("f", "static int", "int a) {", "return 0;", "}"),
            ("handler", "void (*", "(int) {", "return 0;", "}"),
        ],
    ),
    "cpp": (
        """\
namespace a::b {
template <class T> T id(T x) { return x; }
class V {
  V() : x{1} { }
  ~V() {}
  V(const V &) = default;
  int &at(int i) { return d[i]; }
  bool operator<(const V &o) const { return x < o.x; }
  operator bool() const { return x; }
};
}
template <class T> void Vec<T>::push(T x) { auto l = [](int a) { return a; }; }
""",
        [
            ("a.b.id", "template <class", "T x) {", "return x;", "}"),
            ("a.b.V.V", "V()", "{1} {", " ", "}"),
            ("a.b.V.~V", "~V", "~V() {", "", "{}"),
            ("a.b.V.at", "int &at", "int i) {", "return d[i];", "}"),
            ("a.b.V.operator<", "bool operator<", "const {", "return x < o.x;", "}"),
            ("a.b.V.operator bool", "operator bool", "const {", "return x;", "}"),
            ("Vec.push", "template <class", "T x) {", "auto l = [](int a) { return a; };", "}"),
        ],
    ),
}
