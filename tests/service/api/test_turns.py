"""Turns: two requests of a caller are worked on, the others wait in order, and other callers do not wait for them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.api.turns import AT_WORK, SLOW_SECONDS, Slowness, Turns
from service.problems import ProblemError

MOST = 8


def scope(path: str = "/v1/models", method: str = "GET", host: str = "192.0.2.1") -> dict[str, Any]:
    """The ASGI scope of a request."""
    return {"method": method, "path": path, "headers": [], "client": (host, 1), "state": {}}


async def soon(turns: Turns, who: str = "", **asked: str) -> "asyncio.Task[Callable[[], None]]":
    """A task that takes a turn of this caller, or waits for it."""
    task = asyncio.create_task(turns.take(scope(**asked), who))
    await asyncio.sleep(0.01)
    return task


def test_few_of_a_caller_at_a_time_and_in_order() -> None:
    async def test() -> None:
        turns = Turns(MOST)
        asked = [await soon(turns, who="a") for _ in range(AT_WORK + 3)]
        assert [task.done() for task in asked] == [True] * AT_WORK + [False] * 3
        assert (await soon(turns, who="b")).done() and (await soon(turns)).done()
        asked[0].result()()
        asked[0].result()()  # once is enough, and twice does no harm
        await asyncio.sleep(0.01)
        assert [task.done() for task in asked] == [True] * (AT_WORK + 1) + [False] * 2
        asked[-1].cancel()  # a caller who went away
        await asyncio.sleep(0.01)
        for task in asked[1:-1]:
            (await task)()
        assert list(turns._turns) != [] and len(turns._turns) == 2

    asyncio.run(test())


def test_what_is_over_is_forgotten() -> None:
    async def test() -> None:
        turns = Turns(MOST)
        for number in range(100):
            (await turns.take(scope(), f"{number}"))()
        assert not turns._turns

    asyncio.run(test())


def test_a_caller_may_have_so_many_waiting() -> None:
    async def test() -> None:
        turns = Turns(MOST)
        held = [await soon(turns, who="a") for _ in range(MOST)]
        with pytest.raises(ProblemError) as caught:
            await turns.take(scope(), "a")
        assert caught.value.slug == "too-many-at-once"
        assert (await soon(turns, who="b")).done()
        for task in held:
            (await task)()
        assert (await soon(turns, who="a")).done()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/models"), ("PATCH", "/v1/uploads/upl_1"), ("POST", "/v1/examples/fashion-mnist")]
)
def test_what_waits_for_a_body_or_a_child_takes_no_turn(method: str, path: str) -> None:
    async def test() -> None:
        turns = Turns(MOST)
        for _ in range(5 * MOST):
            assert (await soon(turns, who="a", method=method, path=path)).done()
        assert (await soon(turns, who="a", path=path)).done()

    asyncio.run(test())


def test_an_address_that_asks_too_often_is_answered_later() -> None:
    async def test() -> None:
        slowness, loop = Slowness(60), asyncio.get_running_loop()
        began = loop.time()
        for _ in range(60):
            await slowness.count(scope())
        assert loop.time() - began < 0.5
        await slowness.count(scope(host="192.0.2.2"))
        assert loop.time() - began < 0.5
        await slowness.count(scope())
        assert loop.time() - began >= SLOW_SECONDS
        free, began = Slowness(0), loop.time()
        for _ in range(1000):
            await free.count(scope())
        assert loop.time() - began < 0.5

    asyncio.run(test())
