"""Threads for one kind of work: what is admitted, what waits, and what ends it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from infrastructure.errors import WorkOverdue, WorkRefused
from infrastructure.work import WorkPool, checkpoint

pytestmark = pytest.mark.anyio


def pool(**changes: float) -> WorkPool:
    options = {"threads": 2, "room": 10, "wait_s": 5.0, "limit_s": 5.0} | changes
    return WorkPool("pieces are being done", **options)  # type: ignore[arg-type]


def until_told() -> None:
    while True:
        checkpoint()
        time.sleep(0.001)


async def test_the_result_of_the_work_and_its_failure_are_the_callers() -> None:
    work = pool()
    assert await work.run(lambda a, b: a + b, 1, b=2) == 3
    for failure in (KeyError("x"), TimeoutError("its own")):

        def fail(error: Exception = failure) -> None:
            raise error

        with pytest.raises(type(failure), match=str(failure.args[0])):
            await work.run(fail)
    assert (work.room.inside, work.room.taken) == (0, 0)
    await work.close()


async def test_small_pieces_wait_their_turn_and_none_is_refused() -> None:
    work, most, lock, now = pool(), [0], threading.Lock(), [0]

    def piece() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.001)
        with lock:
            now[0] -= 1

    await asyncio.gather(*[work.run_sized(2, piece) for _ in range(100)])
    assert most[0] == 2
    await work.close()


async def test_pieces_are_admitted_by_size_and_in_their_order() -> None:
    work, order, gate = pool(threads=8), [], threading.Event()

    def piece(name: str) -> None:
        order.append(name)
        gate.wait(5)

    began = [asyncio.create_task(work.run_sized(n, piece, f"{n}")) for n in (6, 4, 3, 1)]
    await asyncio.sleep(0.05)
    assert order == ["6", "4"]  # 3 waits for room, and 1, which came later, does not overtake it
    gate.set()
    await asyncio.gather(*began)
    assert sorted(order[2:]) == ["1", "3"]
    huge = await work.run_sized(99, lambda: "alone")
    assert huge == "alone"
    await work.close()


async def test_who_finds_no_room_in_time_is_told_so() -> None:
    work = pool(threads=1, wait_s=0.05)
    running = asyncio.create_task(work.run(until_told))
    await asyncio.sleep(0)
    with pytest.raises(WorkRefused, match=r"no room for another within 0\.05 s\. Try again"):
        await work.run(until_told)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await work.run(lambda: 1) == 1
    await work.close()


async def test_a_piece_ends_when_its_caller_leaves_or_its_time_is_over() -> None:
    work = pool(threads=1, limit_s=0.5)
    began, ended = threading.Event(), threading.Event()

    def piece() -> None:
        began.set()
        try:
            until_told()
        finally:
            ended.set()

    with pytest.raises(WorkOverdue, match=r"not done after 0\.5 s"):
        await work.run(piece)
    assert await asyncio.to_thread(ended.wait, 5)
    work.limit_s = 60
    began.clear(), ended.clear()
    caller = asyncio.create_task(work.run(piece))
    assert await asyncio.to_thread(began.wait, 5)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert await asyncio.to_thread(ended.wait, 5)
    assert await work.run(lambda: 1) == 1
    await work.close()


async def test_who_leaves_while_waiting_gives_the_place_to_the_next() -> None:
    work = pool(room=10)
    first = asyncio.create_task(work.run_sized(5, until_told))
    big = asyncio.create_task(work.run_sized(9, until_told))
    small = asyncio.create_task(work.run_sized(1, lambda: "small"))
    await asyncio.sleep(0.01)
    assert not small.done()
    big.cancel()
    assert await small == "small"
    first.cancel()
    await asyncio.gather(first, big, return_exceptions=True)
    await work.close()


async def test_closing_ends_what_runs_and_refuses_what_waits() -> None:
    work = pool(threads=1, limit_s=60, wait_s=60)
    running = asyncio.create_task(work.run(until_told))
    waiting = asyncio.create_task(work.run(until_told))
    await asyncio.sleep(0.01)
    await work.close()
    outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(each) for each in outcomes] == [WorkOverdue, WorkRefused]
