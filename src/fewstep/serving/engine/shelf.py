"""Models that are loaded when a request names one, and closed when nobody uses them any more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fewstep.generation import Model
from fewstep.models.saved import SavedModel
from fewstep.serving.engine.errors import Busy, ShuttingDown
from fewstep.serving.engine.runtime import Runtime

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds for which a model that was just asked for is not closed: its request may not be queued yet."""

IN_MEMORY = 4
"""Bytes in memory for one on disk: weights in float16 become float32, and the engine has copies of as much again."""


@dataclass
class Loaded:
    """A model in memory.

    Args:
        runtime: runs its jobs.
        used: when it was last asked for, by `time.monotonic()`.
    """

    runtime: Runtime
    used: float = field(default_factory=time.monotonic)

    def is_idle(self, seconds: float) -> bool:
        """Whether nothing runs or waits, and nobody asked for it for some seconds."""
        busy = self.runtime.running or self.runtime.waiting
        return not busy and time.monotonic() - self.used >= seconds


def footprint(saved: SavedModel) -> int:
    """About how many bytes a model takes in memory."""
    return IN_MEMORY * sum((saved.directory / name).stat().st_size for name in saved.spec.files)


class Shelf:
    """Models by name, beside the one that is always loaded.

    Args:
        models: the models.
        load: loads one.
        run: starts the runtime of a loaded one.
        budget: most bytes of all loaded models together; None for no bound.
        idle_seconds: after which a model that nobody uses is closed.
    """

    def __init__(
        self,
        models: Mapping[str, SavedModel],
        load: Callable[[SavedModel], Model],
        run: Callable[[Model], Runtime],
        budget: int | None = None,
        idle_seconds: float = 600.0,
    ) -> None:
        self.models = dict(models)
        self._load, self._run = load, run
        self._budget, self._idle_seconds = budget, idle_seconds
        self._loaded: dict[str, Loaded] = {}
        self._retired: list[Loaded] = []
        self._change = threading.Lock()
        self._loading = threading.Lock()  # one model at a time: two would take the memory of both
        self._closed = False

    @property
    def loaded(self) -> list[str]:
        """The names of the models in memory."""
        return list(self._loaded)

    @property
    def runtimes(self) -> list[Runtime]:
        """The runtimes of all models in memory, old versions among them."""
        return [one.runtime for one in (*self._loaded.values(), *self._retired)]

    def get(self, name: str) -> Runtime:
        """The runtime of a model, loaded first if it is not, which takes seconds.

        Raises:
            Busy: the other loaded models are in use, and leave no memory for it.
            ShuttingDown: the server is closing.
            ModelError, EngineError: it cannot be loaded.
        """
        if (runtime := self._in_memory(name)) is not None:
            return runtime
        with self._loading:
            if (runtime := self._in_memory(name)) is not None:  # loaded in the meantime
                return runtime
            with self._change:
                saved = self.models[name]
                self._make_room(footprint(saved))
            return self._taken_in(name, saved, self._run(self._load(saved)))

    def _in_memory(self, name: str) -> Runtime | None:
        """The runtime of a loaded model, from now on in use."""
        with self._change:
            if self._closed:
                raise ShuttingDown("the server is closing")
            if (one := self._loaded.get(name)) is None:
                return None
            one.used = time.monotonic()
            return one.runtime

    def _taken_in(self, name: str, saved: SavedModel, runtime: Runtime) -> Runtime:
        """A runtime that was just loaded, kept if its model is still the one of this name."""
        with self._change:
            if not self._closed:
                if self.models[name] is saved:
                    self._loaded[name] = Loaded(runtime)
                else:
                    self._retired.append(Loaded(runtime))
                log.info("model '%s' loaded", name)
                return runtime
        runtime.close(0)
        raise ShuttingDown("the server is closing")

    def replace(self, name: str, saved: SavedModel) -> None:
        """Take a new version of a model: requests from now on get it, and those that have begun keep the old one."""
        with self._change:
            self.models[name] = saved
            if (old := self._loaded.pop(name, None)) is not None:
                self._retired.append(old)

    def retire(self, runtime: Runtime) -> None:
        """Close a runtime once its requests are done."""
        with self._change:
            self._retired.append(Loaded(runtime))

    def tidy(self) -> None:
        """Close what nobody uses."""
        with self._change:
            for one in [one for one in self._retired if one.is_idle(GRACE)]:
                self._retired.remove(one)
                one.runtime.close(0)
            for name in [name for name, one in self._loaded.items() if one.is_idle(self._idle_seconds)]:
                self._unload(name)

    def close(self, timeout: float) -> None:
        """Refuse new requests, let the others finish for `timeout` seconds, and stop the rest."""
        self._closed = True
        with self._change:
            runtimes = self.runtimes
        closing = [threading.Thread(target=runtime.close, args=(timeout,)) for runtime in runtimes]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _make_room(self, needed: int) -> None:
        """Close the models that were not used for the longest time, until there is room for another."""
        if self._budget is None:
            return
        by_age = sorted(self._loaded, key=lambda name: self._loaded[name].used)
        for name in by_age:
            if self._taken() + needed <= self._budget:
                return
            if self._loaded[name].is_idle(GRACE):
                self._unload(name)
        if self._loaded and self._taken() + needed > self._budget:
            raise Busy("the models in use leave no memory for another", GRACE, "memory_full")

    def _taken(self) -> int:
        return sum(footprint(self.models[name]) for name in self._loaded)

    def _unload(self, name: str) -> None:
        self._loaded.pop(name).runtime.close(0)
        log.info("model '%s' closed: nobody uses it", name)
