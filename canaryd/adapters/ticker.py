"""Calls the beat on time: at once, then at a fixed interval, one at a time, also after an error.

APScheduler 3 keeps the time. This module reads no clock, so it does not depend on a clock that a test has
frozen.
"""

import queue
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger


class Ticker:
    """Calls `call` every `seconds` from a thread of its own, until `stop`.

    If a beat lasts longer than `seconds`, the beats that are due meanwhile are left out; the next one comes
    at its usual time. If a beat raises, `on_error` gets the exception, and the schedule goes on.
    """

    def __init__(
        self, call: Callable[[], None], seconds: float, on_error: Callable[[Exception], None]
    ) -> None:
        """seconds: the time between two beats, above 0. Raises ValueError otherwise."""
        if not seconds > 0:
            raise ValueError(f"the seconds between two beats must be above 0, but are {seconds:g}")
        self._call, self._on_error = call, on_error
        self._idle = threading.Event()
        self._idle.set()
        self._stopping = False
        self._lock = threading.Lock()
        self._scheduler = BackgroundScheduler(executors={"default": _OneDaemonThread()}, timezone="UTC")
        self._scheduler.add_job(
            self._once,
            trigger=_AtOnceThenEvery(timedelta(seconds=seconds)),
            id="beat",
            misfire_grace_time=None,  # by default a beat that is 1 s late is dropped
            coalesce=True,
            # A slow beat is never overtaken; APScheduler logs a warning for the beats that it leaves out.
            max_instances=1,
        )

    def start(self) -> None:
        """Starts the first beat at once, and returns without waiting for it."""
        self._scheduler.start()

    def stop(self, timeout: float = 4.0) -> bool:
        """Starts no further beat, and waits up to `timeout` s for the one under way. Returns whether it has
        ended. May be called again."""
        with self._lock:
            first, self._stopping = not self._stopping, True
        if first and self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        return self._idle.wait(timeout)

    def _once(self) -> None:
        with self._lock:
            if self._stopping:
                return
            self._idle.clear()
        try:
            self._call()
        except Exception as error:
            self._on_error(error)
        finally:
            self._idle.set()


class _AtOnceThenEvery(BaseTrigger):  # type: ignore[misc]  # apscheduler has no types
    """Fires at once, and then on a grid from there; of missed grid points only the last one is kept.

    APScheduler's IntervalTrigger would list every missed point, millions after a jump of the clock, only to
    merge them.
    """

    def __init__(self, every: timedelta) -> None:
        self.every = every

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if previous_fire_time is None:
            return now
        coming = previous_fire_time + self.every
        return coming if coming >= now else now - (now - coming) % self.every


class _OneDaemonThread(BaseExecutor):  # type: ignore[misc]  # apscheduler has no types
    """Runs jobs one after another in one daemon thread.

    Python waits at exit for the threads of APScheduler's own pool, so a beat that hangs would keep the
    process from ending. All beats share one thread, since HTTP sessions are kept for each thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs: queue.SimpleQueue[tuple[Any, list[datetime]] | None] = queue.SimpleQueue()

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        threading.Thread(target=self._run, name="beat", daemon=True).start()

    def shutdown(self, wait: bool = True) -> None:
        self._jobs.put(None)

    def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
        self._jobs.put((job, run_times))

    def _run(self) -> None:
        while (due := self._jobs.get()) is not None:
            job, run_times = due
            events = run_job(job, job._jobstore_alias, run_times, self._logger.name)
            self._run_job_success(job.id, events)
