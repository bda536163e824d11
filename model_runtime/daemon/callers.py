"""The door to the scheduler: who asks, how much they may ask for, what is written down of it, and how it closes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import HTTPConnection

from model_runtime.daemon.accounts import OWNER, Account, Accounts
from model_runtime.daemon.audit import Audit
from model_runtime.daemon.jobs import Job, Session
from model_runtime.daemon.messages import FORBIDDEN, LIMITED, STOPPING, RpcError
from model_runtime.daemon.scheduler import Scheduler
from model_runtime.protocol import FillRequest, FillResult, RequestError, RewriteRequest

BURST = 6  # of a minute's requests, one part of so many may come at once
REFUSALS = 60  # lines a minute: strangers shall not push what matters out of the audit log
KEY_HEADERS = ("x-api-key", "api-key")  # beside Authorization: llama.cpp's, Azure's

OnFrame = Callable[[dict[str, Any]], None]


class Rate:
    """So many a minute, a part of them at once."""

    def __init__(self, per_minute: int, now: float):
        self._per_s, self._burst, self._at = per_minute / 60, max(1.0, per_minute / BURST), now
        self._left = self._burst

    def wait(self, now: float) -> float:
        """Seconds until there may be one more; 0 counts it."""
        self._left, self._at = min(self._burst, self._left + (now - self._at) * self._per_s), now
        if self._left < 1:
            return (1 - self._left) / self._per_s
        self._left -= 1
        return 0.0


@dataclass
class Usage:
    """What a token has asked for: how fast, and what of it is not answered."""

    rate: Rate
    jobs: set[Job] = field(default_factory=set)


class Door:
    """Lets requests through to the scheduler until it closes."""

    def __init__(
        self,
        scheduler: Scheduler,
        accounts: Accounts | None = None,
        audit: Audit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.scheduler, self.accounts, self.audit, self.clock = scheduler, accounts, audit, clock
        self.closing = False
        self._usage: dict[str, Usage] = {}
        self._answers: set[asyncio.Future[FillResult]] = set()
        self._refusals, self._untold = Rate(REFUSALS, clock()), 0

    def usage(self, account: Account) -> Usage:
        """What an account has asked for; a new one has its burst before it."""
        return self._usage.setdefault(account.sha256, Usage(Rate(account.per_minute, self.clock())))

    def watch(self, answer: asyncio.Future[FillResult]) -> None:
        """An answer that the end waits for."""
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def drain(self, seconds: float, hurry: asyncio.Event) -> int:
        """Let nothing new in, and wait until all is answered: for so long at most, or until there is a hurry.

        Returns how many are left without an answer.
        """
        self.closing = True
        if self._answers and seconds > 0:
            impatient = asyncio.ensure_future(hurry.wait())
            done = asyncio.ensure_future(asyncio.wait(set(self._answers)))
            await asyncio.wait({impatient, done}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            impatient.cancel()
            done.cancel()
        return len(self._answers)

    def refuse(self, address: str, via: str, why: str) -> None:
        """Write down that a stranger was sent away, or count it for the next such line."""
        if self._refusals.wait(self.clock()) > 0:
            self._untold += 1
            return
        self.note("refused", address=address, via=via, why=why, untold=self._untold or None)
        self._untold = 0

    def note(self, event: str, **facts: Any) -> None:
        """Write something down, where that is wanted."""
        if self.audit is not None:
            self.audit.note(event, **facts)


@dataclass(eq=False)
class Caller:
    """Someone who showed a token: that of an account, or (none) the daemon's own, which may do everything."""

    door: Door
    account: Account | None
    address: str
    via: str  # "websocket", or the path

    @property
    def name(self) -> str:
        """How the audit log calls them."""
        return OWNER if self.account is None else self.account.name

    @property
    def scheduler(self) -> Scheduler:
        """Whose figures they may see."""
        return self.door.scheduler

    @property
    def welcome(self) -> bool:
        """Whether their token was not revoked meanwhile."""
        accounts = self.door.accounts
        return self.account is None or (accounts is not None and accounts.holds(self.account))

    def submit(
        self,
        request: FillRequest | RewriteRequest,
        session: Session,
        model: str | None = None,
        on_frame: OnFrame | None = None,
    ) -> Job:
        """Hand a request to the scheduler; RpcError or RequestError if it may not be made, or not now."""
        began, door = self.door.clock(), self.door
        try:
            self._admit(model)
            self._limit(session)
        except (RpcError, RequestError) as error:
            self._note(request, began, error)
            raise
        turn = None if self.account is None else ("token", self.account.name)
        job = door.scheduler.submit(request, session, None if self.account else model, on_frame, turn)
        door.watch(job.answer)
        if self.account is not None:
            jobs = door.usage(self.account).jobs
            jobs.add(job)
            job.answer.add_done_callback(lambda _: jobs.discard(job))
        if door.audit is not None:
            job.answer.add_done_callback(lambda answer: self._note(request, began, answer))
        return job

    def load(self, model: str | None = None) -> asyncio.Future[float]:
        """Have a model loaded; no limit counts that, for editors ask for it with every file they open."""
        self._admit(model)
        return self.door.scheduler.load(None if self.account else model)

    def follows(self, model: str | None = None) -> bool | None:
        """Whether the model that `load` loaded follows instructions, where that is known."""
        return self.door.scheduler.follows(None if self.account else model)

    def owns(self, what: str) -> None:
        """RpcError unless they may do what concerns everybody."""
        if self.account is not None:
            raise RpcError(FORBIDDEN, f"a named token cannot {what} the server")

    def _admit(self, model: str | None) -> None:
        """RpcError or RequestError if nothing may be asked for any more, or not of this model."""
        if self.door.closing:
            raise RpcError(STOPPING, "the daemon is stopping")
        if self.account is not None and model not in (None, self.scheduler.model):
            raise RequestError("this server has one model for all: leave the model out")

    def _limit(self, session: Session) -> None:
        """RpcError if the token's limits are reached; else one more request is counted."""
        if self.account is None:
            return
        usage = self.door.usage(self.account)
        waiting = sum(session[1] is None or job.session != session for job in usage.jobs)  # others are superseded
        if waiting >= self.account.at_once:
            raise RpcError(LIMITED, f"this token has at most {self.account.at_once} requests at a time", 1.0)
        if (seconds := usage.rate.wait(self.door.clock())) > 0:
            sentence = f"this token has at most {self.account.per_minute} requests a minute"
            raise RpcError(LIMITED, sentence, seconds)

    def _note(
        self, request: FillRequest | RewriteRequest, began: float, answer: asyncio.Future[FillResult] | Exception
    ) -> None:
        """Write down a request and how it ended: figures only."""
        what = "fill" if isinstance(request, FillRequest) else "rewrite"
        facts: dict[str, Any] = {"characters": len(request.text)}
        if isinstance(request, FillRequest):
            facts["holes"] = len(request.holes)
        if isinstance(answer, Exception):
            facts |= ended(answer)
        elif answer.cancelled():
            facts["end"] = "cancelled"
        elif (error := answer.exception()) is not None:
            facts |= ended(error)
        else:
            result = answer.result()
            tokens = sum(len(hole.tokens) for hole in result.holes)
            facts |= {"end": result.end, "steps": result.steps, "tokens": tokens, "prompt_tokens": result.prompt_tokens}
        facts["ms"] = round((self.door.clock() - began) * 1000, 1)
        self.door.note(what, token=self.name, address=self.address, via=self.via, **facts)


def ended(error: BaseException) -> dict[str, Any]:
    """How a request failed: the kind of error, whose message could name what a client sent."""
    return {"end": "error", "error": type(error).__name__, "code": getattr(error, "code", None)}


def token_of(connection: HTTPConnection) -> str:
    """The token that a client shows: a bearer's, or one in the headers that other servers use."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    return next((connection.headers[name] for name in KEY_HEADERS if name in connection.headers), "")


def address_of(connection: HTTPConnection, behind_proxy: bool) -> str:
    """Where a client is; behind a proxy, what that says, which is the last it forwarded for."""
    if behind_proxy and (forwarded := connection.headers.getlist("x-forwarded-for")):
        return forwarded[-1].rpartition(",")[2].strip()[:64]
    return connection.client.host if connection.client is not None else "unknown"
