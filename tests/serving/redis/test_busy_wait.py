"""When the event loop is kept from sleeping."""

from __future__ import annotations

import asyncio
import time

from serving.redis.busy_wait import BusyWait

LIMIT_S = 0.02


async def turns_in(seconds: float) -> int:
    """How often the loop turns while nothing happens: a loop that sleeps does a few times."""
    loop, turns = asyncio.get_running_loop(), 0
    select = loop._selector.select  # type: ignore[attr-defined]

    def counted(timeout=None):
        nonlocal turns
        turns += 1
        return select(timeout)

    loop._selector.select = counted  # type: ignore[attr-defined]
    try:
        await asyncio.sleep(seconds)
    finally:
        loop._selector.select = select  # type: ignore[attr-defined]
    return turns


def test_a_lone_read_keeps_the_loop_awake_until_the_limit():
    async def story():
        busy_wait = BusyWait(LIMIT_S)
        began = time.perf_counter()
        busy_wait.hold()
        busy = await turns_in(LIMIT_S / 2)
        await asyncio.sleep(max(2 * LIMIT_S - (time.perf_counter() - began), 0))
        return busy, await turns_in(LIMIT_S / 2)

    busy, quiet = asyncio.run(story())
    assert busy > 50
    assert quiet < 10


def test_a_caller_who_asks_again_at_once_is_awaited():
    async def story():
        busy_wait = BusyWait(LIMIT_S)
        busy_wait.note_answer()
        first = await turns_in(LIMIT_S / 4)
        busy_wait.note_request()  # soon after the answer: it will do so again
        busy_wait.note_answer()
        return first, await turns_in(LIMIT_S / 2)

    first, second = asyncio.run(story())
    assert first < 10
    assert second > 50


def test_a_caller_who_takes_his_time_is_not_awaited():
    async def story():
        busy_wait = BusyWait(LIMIT_S)
        busy_wait.note_answer()
        await asyncio.sleep(2 * LIMIT_S)
        busy_wait.note_request()
        busy_wait.note_answer()
        return await turns_in(LIMIT_S / 2)

    assert asyncio.run(story()) < 10


def test_no_limit_lets_the_loop_sleep_at_once():
    async def story():
        busy_wait = BusyWait(0)
        busy_wait.note_answer()
        busy_wait.note_request()
        busy_wait.note_answer()
        busy_wait.hold()
        return await turns_in(LIMIT_S)

    assert asyncio.run(story()) < 10


def test_a_request_is_alone_while_the_server_knows_of_no_other():
    busy_wait = BusyWait(LIMIT_S)
    assert not busy_wait.is_alone  # no server
    busy_wait.requests = {"one"}
    assert busy_wait.is_alone
    busy_wait.requests = {"one", "another"}
    assert not busy_wait.is_alone
