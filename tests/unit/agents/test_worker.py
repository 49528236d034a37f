"""The agents' process is real here, and really killed and stopped."""

import asyncio
import io
import os
import pickle
import signal
from collections.abc import AsyncIterator

import pytest

from agents import orchestrator
from agents.worker import LENGTH, Worker, serve
from tests.unit.agents.cases import FAULTS, GOOD, NOW, failed, result


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker(seconds=30.0) as worker:
        yield worker


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.pid


async def test_advice_from_the_process_is_what_the_orchestrator_says(worker: Worker) -> None:
    # L03: another process, the same answer.
    for case in (GOOD, FAULTS["a failed result"](GOOD)):
        assert await worker.consider(case) == orchestrator.consider(case)
    assert await worker.advise(failed(), NOW) == orchestrator.advise(failed(), NOW)
    assert pid(worker) != os.getpid()


async def test_questions_at_the_same_time_each_get_their_own_answer(worker: Worker) -> None:
    questions = [failed(i, batch_id=f"B-{i}") for i in range(20)]
    answers = await asyncio.gather(*(worker.advise(q, NOW) for q in questions))
    assert answers == [orchestrator.advise(q, NOW) for q in questions]


async def test_a_killed_process_costs_one_answer(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    # F28: the agents being dead changes nothing but that there is no advice.
    assert await worker.consider(GOOD) is not None
    os.kill(pid(worker), signal.SIGKILL)
    assert await worker.consider(GOOD) is None
    assert "no advice on release" in caplog.text
    assert await worker.consider(GOOD) is not None


async def test_a_hanging_process_is_given_up_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    # L13.
    async with Worker(seconds=30.0) as worker:
        assert await worker.consider(GOOD) is not None
        hanging = pid(worker)
        os.kill(hanging, signal.SIGSTOP)
        worker._seconds = 0.2
        assert await worker.consider(GOOD) is None
        assert "longer than 0.2 s" in caplog.text
        worker._seconds = 30.0
        assert await worker.consider(GOOD) is not None
        assert pid(worker) != hanging


async def test_an_error_in_an_agent_costs_one_answer(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    # The traceback stands in the agents' standard error, which is the server's log.
    assert await worker.advise(result(), NOW) is None
    assert "no advice on deviation" in caplog.text
    assert await worker.consider(GOOD) is not None


async def test_a_cancelled_question_does_not_answer_the_next_one(worker: Worker) -> None:
    assert await worker.consider(GOOD) is not None
    os.kill(pid(worker), signal.SIGSTOP)
    asked = asyncio.create_task(worker.advise(failed(1, batch_id="B-1"), NOW))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await worker.consider(GOOD) == orchestrator.consider(GOOD)


async def test_close_ends_the_process(worker: Worker) -> None:
    await worker.consider(GOOD)
    number = pid(worker)
    await worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_the_process_ends_when_the_server_is_gone() -> None:
    # kill -9 of the server leaves no orphan: its end of the pipe is closed, which ends the loop.
    body = pickle.dumps(("release", (GOOD,)))
    answers = io.BytesIO()
    serve(io.BytesIO(LENGTH.pack(len(body)) + body), answers)
    assert pickle.loads(answers.getvalue()[LENGTH.size :]) == orchestrator.consider(GOOD)
