"""Load: a storm of requests, many fills, how fast status answers, and what typing through keeps."""

from __future__ import annotations

import argparse
import asyncio
import collections
import inspect
import json
import os
import statistics
import time

from processes import megabytes, resident
from serving import dial, serving

from model_runtime.client import Client
from model_runtime.protocol import FillRequest

CODE = "def area(width, height):\n    return \n\n\nprint(area(2, 3))\n"
AT = CODE.index("return ") + len("return ")


async def storm(seconds: float, rate: int = 200) -> dict[str, object]:
    """Requests at a steady rate, each superseding the one before."""
    async with serving() as (_, port), dial(port) as client:
        count = int(seconds * rate)
        answers: collections.Counter[int] = collections.Counter()
        ends: collections.Counter[str] = collections.Counter()

        async def listen() -> None:
            while sum(answers.values()) < count:
                message = json.loads(await client.recv())
                if "id" in message:
                    answers[message["id"]] += 1
                    ends[message["result"]["end"] if "result" in message else str(message["error"]["code"])] += 1

        listening = asyncio.create_task(listen())
        began = time.perf_counter()
        for number in range(count):
            text = "hold " + str(number) if number % 2 else str(number)  # half of them run until they are cancelled
            params = {"session": "s", "request": {"text": text, "holes": [[0, 0]]}}
            if number == count - 1:
                params["request"]["text"] = "last"
            await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "fill", "params": params}))
            await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.perf_counter()))
        await asyncio.wait_for(listening, 30)
        once = all(answers[number] == 1 for number in range(count))
        return {"requests": count, "answered_once": once, "ends": dict(ends)}


async def fake_fills(count: int) -> dict[str, object]:
    """Fills of the fake model, every one another text; the daemon is in this process."""
    async with serving() as (daemon, port), dial(port) as client:
        sizes: list[tuple[int, int]] = []
        for number in range(count):
            params = {"request": {"text": f"{number} {CODE}", "holes": [[0, 0]], "cache": "off"}}
            await client.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "fill", "params": params}))
            while json.loads(await client.recv()).get("id") != number:
                pass
            if number % (count // 10) == count // 10 - 1:
                sizes.append((resident(os.getpid()), resident(daemon.status()["worker"]["pid"])))
        return {"fills": count, **growth(sizes)}


async def real_fills(client: Client, count: int) -> dict[str, object]:
    """Fills of the embedded model, every one another text."""
    sizes: list[tuple[int, int]] = []
    status = await client.status()
    began = time.perf_counter()
    for number in range(count):
        text = f"# {number}\n{CODE}"
        at = AT + len(text) - len(CODE)
        await client.fill(FillRequest(text=text, holes=[(at, at)], length="fixed:2"))
        if number % (count // 10) == count // 10 - 1:
            status = await client.status()
            held = status["results"]["bytes"]  # the cache of results fills up to its limit; that is no leak
            sizes.append((resident(status["pid"]) - held, resident(status["worker"]["pid"])))
    milliseconds = (time.perf_counter() - began) * 1000 / count
    return {"fills": count, "ms_each": round(milliseconds, 1), **growth(sizes)}


def growth(sizes: list[tuple[int, int]]) -> dict[str, object]:
    """How much more memory is in use after ten tenths than after five, once the context that is kept has its limit."""
    shares = [round(last / first - 1, 4) for first, last in zip(sizes[4], sizes[-1], strict=True)]
    return {"daemon_mb": megabytes(sizes[-1][0]), "worker_mb": megabytes(sizes[-1][1]), "growth": shares}


async def status_times(client: Client, rounds: int) -> dict[str, object]:
    """Milliseconds that `status` takes while a fill runs."""
    times: list[float] = []
    while len(times) < rounds:
        request = FillRequest(
            text=CODE, holes=[(AT, AT)], length="fixed:64", steps=64, sampler="entropy", frames=True, cache="off"
        )
        running = asyncio.Event()
        fill = asyncio.create_task(client.fill(request, lambda frame, seen=running: seen.set()))
        await running.wait()
        while not fill.done() and len(times) < rounds:
            began = time.perf_counter()
            await client.status()
            times.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.01)
        fill.cancel()
        await asyncio.gather(fill, return_exceptions=True)
    return {"rounds": rounds, "median_ms": round(statistics.median(times), 2), "worst_ms": round(max(times), 2)}


async def typed_through(client: Client, places: int) -> dict[str, object]:
    """Of one-line fills whose first one to three characters were typed: the share that a fresh fill repeats."""
    text = inspect.getsource(argparse)
    starts = [at for at in range(4000, len(text)) if text[at - 1].isspace() and text[at].isalpha()]
    same = begun = asked = 0
    for at in starts[:: max(1, len(starts) // places)][:places]:
        end = text.index("\n", at)
        options = {"max_lines": 1, "length": "fixed:6", "cache": "off"}
        before, after = text[at - 1000 : at], text[end : end + 300]
        first = await client.fill(FillRequest(text=before + after, holes=[(len(before),) * 2], **options))
        whole = first.holes[0].text
        for count in range(1, min(4, len(whole))):
            typed = before + whole[:count]
            fresh = await client.fill(FillRequest(text=typed + after, holes=[(len(typed),) * 2], **options))
            asked += 1
            same += fresh.holes[0].text == whole[count:]
            begun += fresh.holes[0].text[:1] == whole[count]
    return {"asked": asked, "same": round(same / asked, 3), "same_next_character": round(begun / asked, 3)}


async def given_back(client: Client) -> dict[str, object]:
    """Memory in MB before a model is loaded, with it, after fills, and once it is unloaded."""
    await client.unload()
    status = await client.status()
    before = resident(status["pid"])
    await client.load()
    status = await client.status()
    loaded = resident(status["worker"]["pid"])
    for number in range(20):
        await client.fill(FillRequest(text=f"# {number}\n{CODE * 40}", holes=[(0, 0)], length="fixed:64"))
    used = resident(status["worker"]["pid"])
    await client.unload()
    after = resident(status["pid"])
    still = (await client.status())["worker"]["pid"]
    return {
        "daemon_before_mb": megabytes(before),
        "worker_loaded_mb": megabytes(loaded),
        "worker_used_mb": megabytes(used),
        "daemon_after_mb": megabytes(after),
        "worker_after_mb": 0.0 if still is None else megabytes(resident(still)),
        "given_back_mb": megabytes(used + before - after),
    }
