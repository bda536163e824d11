"""From what the model answers to what the editor is offered, with a model that says what a test wants it to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lsprotocol import types

from lsp_server.documents import Document
from lsp_server.session import Session, last_fill
from lsp_server.settings import Settings
from lsp_server.silence import Silence
from lsp_server.status import Status
from lsp_server.suggest import Suggestions, complete, overlap_right
from model_runtime.protocol import FillRequest, FillResult, HoleFill, RequestError, TokenInfo

URI = "file:///project/a.py"


class Model:
    """Answers each request with the texts it was made with, once `gate` is open; keeps what it was asked."""

    state = "idle"
    model = "fake"

    def __init__(self, *texts: str, end: str = "complete", confidence: float = 0.9):
        self.texts, self.end, self.confidence = texts, end, confidence
        self.asked: list[FillRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.steps = 1

    async def fill(self, request: FillRequest, on_frame: Any = None, session: str | None = None) -> FillResult:
        request.check()
        self.asked.append(request)
        await self.gate.wait()
        if self.error:
            raise self.error
        ((start, end),) = request.holes
        made = [
            [HoleFill(start, end, text, self.confidence, "fixed:4", [TokenInfo(0, len(text), self.confidence, 1)])]
            for text in self.texts
        ]
        return FillResult(made[0], made[1:], self.end, self.steps, "fake", 0, {"total": 1.0})  # type: ignore[arg-type]


class Place:
    """A session with one edited document, its cursor at the bar."""

    def __init__(self, marked: str, model: Model, language: str = "python", **settings: Any):
        self.offset = marked.index("|")
        self.document = Document(URI, language, 2, marked.replace("|", "", 1), edits=1)
        self.told: list[dict[str, Any]] = []
        self.shown: list[str] = []
        held = Settings(debounce_ms=0, exclude_git_ignored=False, **settings)
        self.session = Session(
            model,  # type: ignore[arg-type]
            Status(self.told.append),
            {URI: self.document},
            self.shown.append,
            settings=held,
        )
        self.session.ready.set()
        self.suggestions = Suggestions()

    async def ask(self, invoked: bool = True, info: types.SelectedCompletionInfo | None = None) -> Any:
        kind = types.InlineCompletionTriggerKind
        context = types.InlineCompletionContext(kind.Invoked if invoked else kind.Automatic, info)
        position = self.document.position_at(self.offset)
        params = types.InlineCompletionParams(context, types.TextDocumentIdentifier(URI), position)
        answer = await complete(self.session, self.suggestions, params)
        return answer and answer.items

    @property
    def silence(self) -> str | None:
        return self.session.status.silence and self.session.status.silence.reason


def ask(marked: str, model: Model, invoked: bool = True, **settings: Any) -> tuple[list[Any] | None, Place]:
    place = Place(marked, model, **settings)
    return asyncio.run(place.ask(invoked)), place


def accept(place: Place, item: types.InlineCompletionItem) -> str:
    """The document's text once an item is accepted."""
    start, end = place.document.span_of(item.range)
    text = place.document.text
    return text[:start] + str(item.insert_text) + text[end:]


def test_an_item_inserts_at_the_cursor_and_says_so_when_accepted():
    items, place = ask("x = |\n", Model("compute(y)"))
    assert [item.insert_text for item in items] == ["compute(y)"]
    assert items[0].range == place.document.range_of(4, 4)
    assert items[0].command.command == "diffill.accepted"
    assert accept(place, items[0]) == "x = compute(y)\n"
    assert place.session.status.counters.offered == 1


def test_alternatives_are_asked_for_when_invoked_and_each_is_offered_once():
    model = Model("one()", "two()", "one()", "  ")
    items, _ = ask("x = |\n", model)
    assert [item.insert_text for item in items] == ["one()", "two()"]
    assert len({item.command.arguments[0] for item in items}) == 2
    assert model.asked[0].alternatives == Settings().alternatives
    ask("x = |\n", model, invoked=False)
    assert model.asked[1].alternatives == 1


def test_one_line_or_a_block():
    model = Model("pass")
    ask("def f():\n    |\n", model, max_lines=5)
    ask("def f():\n    x = |\n", model)
    assert [request.max_lines for request in model.asked] == [6, 1]


def test_a_block_that_is_typed_through_is_asked_for_as_a_block():
    model = Model("return total")
    place = Place("def f():\n    |\n", model)

    async def type_on(text: str) -> None:
        position = place.document.position_at(place.offset)
        change = types.TextDocumentContentChangePartial(types.Range(position, position), text)
        place.document.apply([change], place.document.version + 1)
        place.offset += len(text)
        await place.ask(invoked=False)

    async def run() -> None:
        await place.ask(invoked=False)
        model.texts = ("turn total",)
        await type_on("re")
        await type_on("x")  # not what was offered

    asyncio.run(run())
    assert [request.max_lines for request in model.asked] == [9, 9, 1]


def test_what_repeats_to_the_right_of_the_cursor_is_replaced():
    assert overlap_right("a, b)", ")") == 1
    assert overlap_right("a, b):", "): # why") == 2
    assert overlap_right("a", " ") == 0
    assert overlap_right("a ", " ") == 0  # blanks alone tell nothing
    items, place = ask("print(|)\n", Model("value)"))
    assert accept(place, items[0]) == "print(value)\n"
    assert items[0].range.start.line == items[0].range.end.line


def test_an_entry_selected_in_the_popup_is_built_upon():
    model = Model("(items)")
    place = Place("x = so|\n", model)
    info = types.SelectedCompletionInfo(place.document.range_of(4, 6), "sorted")
    items = asyncio.run(place.ask(invoked=False, info=info))
    assert model.asked[0].text == "x = sorted\n"
    assert items[0].insert_text == "sorted(items)"
    assert accept(place, items[0]) == "x = sorted(items)\n"


def test_a_selection_of_several_lines_is_no_entry():
    model = Model("y")
    place = Place("x = |\nz = 1\n", model)
    info = types.SelectedCompletionInfo(place.document.range_of(0, 9), "x = \nz =")
    assert [item.insert_text for item in asyncio.run(place.ask(info=info))] == ["y"]
    assert model.asked[0].text == place.document.text


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (Model(" "), {}, "empty"),
        (Model("", end="deadline"), {}, "deadline"),
        (Model("", end="superseded"), {}, "superseded"),
        (Model("# nothing but words"), {}, "filtered"),
    ],
)
def test_every_nothing_has_its_reason(model, settings, reason):
    items, place = ask("x = (1\n|\n", model, **settings)
    assert items is None
    assert place.silence == reason
    assert place.told[-1]["lastSilence"]["message"]


def test_an_unsure_suggestion_is_shown_only_to_who_asks_for_it():
    unsure = Model("y", confidence=0.2)
    items, place = ask("x = |\n", unsure, invoked=False)
    assert (items, place.silence) == (None, "low_confidence")
    assert [item.insert_text for item in ask("x = |\n", unsure)[0]] == ["y"]
    assert ask("x = |\n", unsure, invoked=False, min_confidence=0.2)[0]


def test_what_the_model_was_too_slow_for_is_still_shown():
    items, _ = ask("x = |\n", Model("half", end="deadline"))
    assert [item.insert_text for item in items] == ["half"]


def test_failures_are_silences_told_aloud_once():
    model = Model("y")
    model.error = Silence("no_model", "there is no model 'x'")

    async def twice() -> list[Any]:
        return [await place.ask(), await place.ask()]

    place = Place("x = |\n", model)
    assert asyncio.run(twice()) == [None, None]
    assert place.silence == "no_model"
    assert len(place.shown) == 1
    model.error = RequestError("the text holds half a surrogate pair")
    assert ask("x = |\n", model)[0] is None


def test_automatic_suggestions_can_be_off_and_invoked_ones_still_come():
    assert ask("x = |\n", Model("y"), automatic=False)[0]
    items, place = ask("x = |\n", Model("y"), invoked=False, automatic=False)
    assert (items, place.silence) == (None, "paused")


def test_the_same_place_asked_again_gets_the_same_answer_without_the_model():
    model = Model("y")
    place = Place("x = |\n", model)

    async def twice() -> list[Any]:
        return [await place.ask(invoked=False), await place.ask(invoked=False)]

    first, second = asyncio.run(twice())
    assert first == second
    assert len(model.asked) == 1


def test_a_newer_request_cancels_the_older_one_which_is_answered_with_nothing():
    model = Model("y")
    place = Place("x = |\n", model)

    async def overtake() -> list[Any]:
        model.gate.clear()
        older = asyncio.ensure_future(place.ask())
        while not model.asked:
            await asyncio.sleep(0)
        newer = asyncio.ensure_future(place.ask())
        assert await older is None
        assert place.silence == "superseded"
        model.gate.set()
        return await newer

    assert len(asyncio.run(overtake())) == 1
    assert place.silence is None
    assert place.suggestions.running == {}


def test_an_answer_that_typing_has_overtaken_is_not_given():
    model = Model("y")
    place = Place("x = |\n", model)

    async def type_meanwhile() -> Any:
        model.gate.clear()
        running = asyncio.ensure_future(place.ask())
        while not model.asked:
            await asyncio.sleep(0)
        place.document.apply([types.TextDocumentContentChangeWholeDocument("x = 1\n")], 3)
        model.gate.set()
        return await running

    assert asyncio.run(type_meanwhile()) is None
    assert place.silence == "superseded"


def test_nothing_is_sent_before_the_clients_settings_are_known():
    model = Model("y")
    place = Place("x = |\n", model)

    async def ask_early() -> Any:
        place.session.ready.clear()
        running = asyncio.ensure_future(place.ask())
        for _ in range(5):
            await asyncio.sleep(0)
        place.session.settings = Settings(exclude=("a.py",))
        place.session.ready.set()
        return await running

    assert asyncio.run(ask_early()) is None
    assert (model.asked, place.silence) == ([], "excluded")


def test_a_model_that_is_not_loaded_when_time_is_up_is_asked_again_once_it_is():
    class Loading(Model):
        async def warm(self) -> None:
            self.end, self.texts, self.steps = "complete", ["y"], 1

    for state in ("loading", "idle"):  # it may be loaded at the very moment that the time is up
        model = Loading("", end="deadline")
        model.state, model.steps = state, 0
        items, _ = ask("x = |\n", model)
        assert [item.insert_text for item in items] == ["y"]


def test_a_model_that_began_and_was_too_slow_is_not_asked_again():
    model = Model("", end="deadline")
    _, place = ask("x = |\n", model)
    assert (len(model.asked), place.silence) == (1, "deadline")


def test_a_model_that_takes_very_long_to_load_is_the_reason(monkeypatch):
    class Loading(Model):
        async def warm(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("lsp_server.suggest.LOADING_S", 0.001)
    model = Loading("", end="deadline")
    model.state, model.steps = "loading", 0
    assert ask("x = |\n", model)[1].silence == "loading"


def test_a_closed_file_ends_its_request():
    model = Model("y")
    place = Place("x = |\n", model)

    async def close() -> Any:
        model.gate.clear()
        running = asyncio.ensure_future(place.ask())
        while not model.asked:
            await asyncio.sleep(0)
        place.suggestions.forget(URI)
        return await running

    assert asyncio.run(close()) is None


def test_a_clients_own_cancellation_reaches_the_model_and_is_passed_on():
    model = Model("y")
    place = Place("x = |\n", model)

    async def cancel() -> None:
        model.gate.clear()
        running = asyncio.ensure_future(place.ask())
        while not model.asked:
            await asyncio.sleep(0)
        (task,) = place.suggestions.running.values()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


def test_the_last_fill_names_tokens_where_they_will_stand():
    document = Document(URI, "python", 4, "s = '😀'; x = \ny = \n")
    holes = [
        HoleFill(13, 13, "a\nb", 0.5, "fixed:2", [TokenInfo(0, 1, 0.25, 1), TokenInfo(1, 3, 1.0, 2)]),
        HoleFill(18, 18, "c", 1.0, "fixed:1", [TokenInfo(0, 1, 1.0, 1)]),
    ]
    told = last_fill(document, FillResult(holes, [], "complete", 2, "fake", 0, {}))
    first, second = told["holes"]
    assert first["newRange"] == types.Range(types.Position(0, 14), types.Position(1, 1))
    assert first["tokens"][1]["range"] == types.Range(types.Position(0, 15), types.Position(1, 1))
    assert second["range"] == types.Range(types.Position(1, 4), types.Position(1, 4))
    assert second["newRange"] == types.Range(types.Position(2, 4), types.Position(2, 5))
