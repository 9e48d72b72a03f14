"""The models of one server: the first one, always loaded; others beside it, and the teacher of the first one for
comparison, loaded when they are asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from fewstep.generation import Model, Request
from fewstep.models.finding import find
from fewstep.models.parts import ModelError
from fewstep.models.saved import SavedModel
from fewstep.serving.engine.errors import NotFound
from fewstep.serving.engine.runtime import Runtime
from fewstep.serving.engine.shelf import Shelf


class ModelHost:
    """Finds the runtime of the model that a request names.

    Args:
        runtime: runtime of the first model.
        others: the models beside it; its teacher is added to them.
        aliases: other names of the first model, or patterns of names with * and ?.
        max_batch: most samples in one network call.
        reopen: opens the first model again, in a runtime of its own.
    """

    def __init__(
        self,
        runtime: Runtime,
        others: Shelf,
        aliases: Sequence[str] = (),
        max_batch: int = 32,
        reopen: Callable[[], Runtime] | None = None,
    ) -> None:
        self.runtime, self.others, self.aliases = runtime, others, tuple(aliases)
        self._max_batch, self._reopen = max_batch, reopen
        self._warm = False
        self.named = list(others.models)
        """The names of the models beside the first, without teachers."""
        self.teacher = self._add_teacher()
        """The model that the first one was distilled from, if it is built in or in the same folder."""

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

    @property
    def runtimes(self) -> list[Runtime]:
        """The runtimes of all models in memory."""
        return [self.runtime, *self.others.runtimes]

    @property
    def waiting(self) -> int:
        """Number of jobs in all queues."""
        return sum(runtime.waiting for runtime in self.runtimes)

    @property
    def running(self) -> int:
        """Number of jobs that run."""
        return sum(runtime.running for runtime in self.runtimes)

    def serves(self, name: str | None) -> bool:
        """Whether this is a name of the first model, as is None."""
        if name in self.others.models:
            return False
        return name in (None, self.model.name) or any(fnmatchcase(str(name), alias) for alias in self.aliases)

    def saved(self, name: str | None) -> SavedModel:
        """The model of this name, loaded or not.

        Raises:
            NotFound: there is none.
        """
        if self.serves(name):
            return self.model.saved
        if name in self.others.models:
            return self.others.models[str(name)]
        have = ", ".join(f"'{each}'" for each in (self.model.name, *self.named))
        raise NotFound("model", f"there is no model '{name}': this server has {have}", "model_not_found")

    async def find(self, name: str | None) -> Runtime:
        """The runtime of the model with this name; None for the first one.

        Raises:
            NotFound: there is no such model.
            Busy: there is no memory for it beside those in use.
            ShuttingDown: the server is closing.
        """
        self.saved(name)
        if self.serves(name):
            return self.runtime
        return await asyncio.to_thread(self.others.get, str(name))

    def warm_up(self) -> None:
        """Draw at every batch size that the network is built for, so that no client waits for late loading.

        Requests that arrive in the meantime wait in the queue.

        Raises:
            ShuttingDown: the host was stopped in the meantime.
        """
        self._warm_up(self.runtime)
        self._warm = True

    def _warm_up(self, runtime: Runtime) -> None:
        model = runtime.model
        prompt = "warm-up" if model.spec.conditioning.text_length else ""
        sizes = [size for size in getattr(model.network, "sizes", (1,)) if size <= self._max_batch]
        runtime.warm_up(Request(prompt, seed=0, images=size) for size in sizes)

    def reload(self) -> list[str]:
        """Take new versions of the models whose files have changed, and return their names.

        Requests that have begun keep the version they began with. It takes as long as loading does: call it in a
        thread.

        Raises:
            ModelError, EngineError: a new version cannot be loaded; the old one stays.
        """
        changed = []
        for name, saved in list(self.others.models.items()):
            if (fresh := find(saved.directory)).hash != saved.hash:
                self.others.replace(name, fresh)
                changed.append(name)
        if self._reopen is not None and find(self.model.saved.directory).hash != self.model.hash:
            fresh_runtime, old = self._reopen(), self.runtime
            self._warm_up(fresh_runtime)
            self.runtime = fresh_runtime
            self.others.retire(old)
            self.teacher = self._add_teacher()
            changed.append(self.model.name)
        return changed

    def _add_teacher(self) -> SavedModel | None:
        teacher = _teacher_of(self.model.saved)
        if teacher is not None:
            self.others.models.setdefault(teacher.spec.name, teacher)
        return teacher

    def stop(self, timeout: float) -> None:
        """Refuse new requests, let the others finish for `timeout` seconds, and stop the rest."""
        others = threading.Thread(target=self.others.close, args=(timeout,))
        others.start()
        self.runtime.close(timeout)
        others.join()


def _teacher_of(saved: SavedModel) -> SavedModel | None:
    """The model that another one was distilled from, if it is built in or in the same folder."""
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
