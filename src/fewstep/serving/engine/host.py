"""The models of one server: the served one, and the teacher that it was distilled from, for comparison."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal

from fewstep.generation import Model, Request, load
from fewstep.models.finding import find
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel
from fewstep.serving.engine.errors import NotFound, ShuttingDown
from fewstep.serving.engine.runtime import Runtime


class ModelHost:
    """Finds the runtime of the model that a request names.

    Args:
        runtime: runtime of the served model.
        run_teacher: function that starts a runtime for the loaded teacher.
        aliases: other names of the served model, or patterns of names with * and ?.
        max_batch: most samples in one network call.
        threads: threads per network call of the teacher; None for one per core.
    """

    def __init__(
        self,
        runtime: Runtime,
        run_teacher: Callable[[Model], Runtime],
        aliases: Sequence[str] = (),
        max_batch: int = 32,
        threads: int | None = None,
    ) -> None:
        self.runtime = runtime
        self._run_teacher, self.aliases, self._threads = run_teacher, tuple(aliases), threads
        self._max_batch = max_batch
        self._warm = False
        self._teacher_runtime: Runtime | None = None
        self._loading = threading.Lock()

    @property
    def model(self) -> Model:
        """The served model."""
        return self.runtime.model

    @property
    def state(self) -> Literal["starting", "ready", "closed"]:
        """Whether it can draw: not yet, now, or no longer."""
        if self.runtime.closed:
            return "closed"
        return "ready" if self._warm else "starting"

    def serves(self, name: str | None) -> bool:
        """Whether this is a name of the served model, as is None."""
        return name in (None, self.model.name) or any(fnmatchcase(str(name), alias) for alias in self.aliases)

    async def find(self, name: str | None) -> Runtime:
        """The runtime of the model with this name; None for the served one.

        Raises:
            NotFound: there is no such model.
            ShuttingDown: the server is closing.
        """
        if self.serves(name):
            return self.runtime
        if self.teacher is not None and name == self.teacher.spec.name:
            return await asyncio.to_thread(self._loaded_teacher)
        raise NotFound("model", f"there is no model '{name}': this server has '{self.model.name}'", "model_not_found")

    def warm_up(self) -> None:
        """Draw at every batch size that the network is built for, so that no client waits for late loading.

        Requests that arrive in the meantime wait in the queue.

        Raises:
            ShuttingDown: the host was stopped in the meantime.
        """
        prompt = "warm-up" if self.model.spec.conditioning.text_length else ""
        sizes = [size for size in getattr(self.model.network, "sizes", (1,)) if size <= self._max_batch]
        self.runtime.warm_up(Request(prompt, seed=0, images=size) for size in sizes)
        self._warm = True

    @cached_property
    def teacher(self) -> SavedModel | None:
        """The model that the served one was distilled from, if it is built in or in the same folder."""
        saved = self.model.saved
        for entry in saved.spec.lineage:
            name = entry.get("teacher", "")
            if not name or Path(name).name != name:
                continue
            for place in (name, saved.directory.parent / name):
                try:
                    found = find(place)
                except ModelError:  # it does not exist, or is a different model
                    continue
                if found.hash == entry.get("hash"):
                    return found
        return None

    def _loaded_teacher(self) -> Runtime:
        """The teacher's runtime, loaded on first use, which takes seconds."""
        assert self.teacher is not None
        with self._loading:
            if self.runtime.closed:
                raise ShuttingDown("the server is closing")
            if self._teacher_runtime is None:
                ours = self.model
                model = load(self.teacher.directory, ours.engine, ours.device, self._threads, ours.precision)
                self._teacher_runtime = self._run_teacher(model)
            return self._teacher_runtime

    def stop(self, timeout: float) -> None:
        """Refuse new requests, let the others finish for `timeout` seconds, and stop the rest."""
        self.runtime.close(timeout)
        with self._loading:
            if self._teacher_runtime is not None:
                self._teacher_runtime.close(0)
