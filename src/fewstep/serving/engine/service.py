"""What every surface of one server shares: the runtime, the kept images, the uploads, the judge."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from fewstep.generation import Model, Request, load
from fewstep.generation.running import Progress
from fewstep.measure.judges import Recogniser
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel, find
from fewstep.serving.engine.jobs import Cancelled, Drawn, Job, Seen, ShuttingDown
from fewstep.serving.engine.metrics import Metrics
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.engine.store import Store
from fewstep.serving.engine.tracing import Traces
from fewstep.serving.http.security import read_keys
from fewstep.serving.http.uploads import Pictures
from fewstep.serving.settings import ServeSettings

T = TypeVar("T")
_RACES = 2
"""How many pictures a teacher draws at a time: it is there to be compared with, not to serve."""


@dataclass
class Service:
    """One server's parts.

    Args:
        settings: how it serves.
        model: what it serves, loaded.
        announce: called when it is ready.
        traces: where its spans go.
    """

    settings: ServeSettings
    model: Model
    announce: Callable[[], None] = lambda: None
    runtime: Runtime = field(init=False)
    store: Store = field(init=False)
    pictures: Pictures = field(init=False)
    metrics: Metrics = field(init=False)
    traces: Traces = field(default_factory=Traces)
    keys: tuple[str, ...] = field(init=False)
    _warm: bool = field(default=False, init=False)
    _teaching: Runtime | None = field(default=None, init=False)
    _loading: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        """Read the keys and start the threads.

        Raises:
            ValueError: the keys file is none.
        """
        chosen = self.settings
        self.keys = () if chosen.keys_file is None else read_keys(chosen.keys_file)
        self.store = Store(chosen.keep_images, chosen.keep_bytes, chosen.keep_seconds)
        self.pictures = Pictures(chosen.max_pixels, chosen.max_held_pixels)
        self.metrics = Metrics()
        file = self.model.saved.recogniser
        look = partial(_recognised, Recogniser(file)) if file.is_file() else None
        self.runtime = Runtime(
            self.model, chosen.jobs, chosen.max_waiting, chosen.max_batch, chosen.network_cpus, self.metrics, look
        )
        self.metrics.watch(lambda: self.runtime.waiting, lambda: self.runtime.running)

    @property
    def state(self) -> Literal["starting", "ready", "closed"]:
        """Whether it can draw: not yet, now, or no more."""
        if self.runtime.closed:
            return "closed"
        return "ready" if self._warm else "starting"

    def warm_up(self) -> None:
        """Draw at every batch size the network is built for, so that no client gets what is loaded late.

        Who asks meanwhile waits in the queue.

        Raises:
            ShuttingDown: it was stopped meanwhile.
        """
        prompt = "warm-up" if self.model.spec.conditioning.text_length else ""
        sizes = getattr(self.model.network, "sizes", (1,))
        most = self.settings.max_batch
        self.runtime.warm_up(Request(prompt, seed=0, images=size) for size in sizes if size <= most)
        self._warm = True
        self.announce()

    @cached_property
    def teacher(self) -> SavedModel | None:
        """The model that the served one was distilled from, if it is here: built in, or beside the served one."""
        saved = self.model.saved
        for entry in saved.spec.lineage:
            name = entry.get("teacher", "")
            if not name or Path(name).name != name:
                continue
            for place in (name, saved.directory.parent / name):
                try:
                    found = find(place)
                except ModelError:  # it is not there, or is another's
                    continue
                if found.hash == entry.get("hash"):
                    return found
        return None

    def teaching(self) -> Runtime:
        """Where the teacher draws, for who wants to see it race: loaded when it is first asked for; takes seconds.

        Raises:
            ShuttingDown: the server is closing.
        """
        assert self.teacher is not None
        with self._loading:
            if self.runtime.closed:
                raise ShuttingDown("the server is closing")
            if self._teaching is None:
                ours = self.model
                model = load(self.teacher.directory, ours.engine, ours.device, self.settings.threads, ours.precision)
                self._teaching = Runtime(model, _RACES, self.settings.max_waiting, self.settings.max_batch)
            return self._teaching

    async def submit(
        self,
        request: Request,
        finish: Callable[[Drawn], T],
        client: str,
        session: str | None = None,
        seen: Callable[[Progress], None] | None = None,
        arrived: float | None = None,
    ) -> Job[T]:
        """`Runtime.submit`, off the event loop where a picture has to become data; who is cancelled leaves no job."""
        submit = partial(self.runtime.submit, request, finish, client, session, seen, arrived)
        if request.edit is None and request.control is None:
            return submit()
        submitting = asyncio.ensure_future(asyncio.to_thread(submit))
        try:
            return await asyncio.shield(submitting)
        except asyncio.CancelledError:
            submitting.add_done_callback(self._drop)
            raise

    def _drop(self, submitting: asyncio.Future[Job[Any]]) -> None:
        if not submitting.cancelled() and submitting.exception() is None:
            self.runtime.stop(submitting.result(), Cancelled("the client went away"))

    def stop(self) -> None:
        """Refuse new requests and give the others the settings' patience; what still runs then is told so."""
        self.runtime.close(self.settings.shutdown_timeout)
        with self._loading:
            if self._teaching is not None:
                self._teaching.close(0)

    def close(self) -> None:
        """Stop, and send the last spans."""
        self.stop()
        self.traces.close()


def _recognised(judge: Recogniser, pixels: Any) -> list[Seen]:
    verdict = judge(pixels)
    return [Seen(name, round(float(sure), 4)) for name, sure in zip(verdict.names, verdict.confidence, strict=True)]
