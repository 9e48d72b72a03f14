"""What every surface of one server shares: the runtime, the kept images, the uploads, the judge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from fewstep.evaluation.recognise import Recogniser
from fewstep.generation import Model, Request
from fewstep.generation.plan import Progress
from fewstep.serving.jobs import Cancelled, Drawn, Job, Seen
from fewstep.serving.metrics import Metrics
from fewstep.serving.runtime import Runtime
from fewstep.serving.security import read_keys
from fewstep.serving.settings import ServeSettings
from fewstep.serving.store import Store
from fewstep.serving.tracing import Traces
from fewstep.serving.uploads import Pictures

T = TypeVar("T")


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

    def __post_init__(self) -> None:
        """Read the keys and start the threads.

        Raises:
            ValueError: the keys file is none.
        """
        chosen = self.settings
        self.keys = () if chosen.keys_file is None else read_keys(chosen.keys_file)
        self.store = Store(chosen.keep_images, chosen.keep_bytes, chosen.keep_seconds)
        self.pictures = Pictures(chosen.most_pixels, chosen.held_pixels)
        self.metrics = Metrics()
        file = self.model.saved.recogniser
        look = partial(_recognised, Recogniser(file)) if file.is_file() else None
        self.runtime = Runtime(
            self.model, chosen.jobs, chosen.waiting, chosen.batch, chosen.network_cpus, self.metrics, look
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
        self.runtime.warm_up(Request(prompt, seed=0, images=size) for size in sizes if size <= self.settings.batch)
        self._warm = True
        self.announce()

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
        self.runtime.close(self.settings.patience)

    def close(self) -> None:
        """Stop, and send the last spans."""
        self.stop()
        self.traces.close()


def _recognised(judge: Recogniser, pixels: Any) -> list[Seen]:
    verdict = judge(pixels)
    return [Seen(name, round(float(sure), 4)) for name, sure in zip(verdict.names, verdict.confidence, strict=True)]
