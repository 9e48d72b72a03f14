"""Checkpoints: the whole state of a run as safetensors and JSON, written atomically; the last few are kept."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FORMAT = 1


log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint cannot be used: the message says why."""


class AnotherRun(CheckpointError):
    """A checkpoint belongs to a run with other settings."""


class Stateful(Protocol):
    """An object with a state to save: a network, or its trainable part."""

    def state_dict(self) -> Mapping[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> object: ...


def save(
    directory: Path,
    step: int,
    modules: Mapping[str, Stateful],
    optimizers: Sequence[torch.optim.Optimizer],
    facts: Mapping[str, Any],
    keep: int = 3,
) -> Path:
    """Write `directory/step-NNNNNNNN` with an atomic rename, then remove all but the last `keep` checkpoints.

    Args:
        directory: directory of this run's checkpoints.
        step: optimiser steps done.
        modules: every network, or its trainable part, by name.
        optimizers: the optimisers, in the order they were built.
        facts: JSON values that identify the run.
        keep: number of checkpoints to keep.
    """
    final = directory / f"step-{step:08d}"
    scratch = directory / f".writing-{step:08d}-{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name, module in modules.items():
        save_file({k: v.contiguous() for k, v in module.state_dict().items()}, scratch / f"{name}.safetensors")
    tensors, numbers = _flatten(optimizers)
    save_file(tensors, scratch / "optimizers.safetensors")
    state = {"format": FORMAT, "step": step, "optimizers": numbers, "facts": dict(facts)}
    (scratch / "state.json").write_text(json.dumps(state), encoding="utf-8")
    for file in scratch.iterdir():
        _flush(file)
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
    _flush(directory)
    for old in found(directory)[:-keep]:
        # moved first, so that a removal cut short leaves no half checkpoint behind
        shutil.rmtree(old.rename(directory / f".writing-{old.name}-{os.getpid()}"))
    return final


def found(directory: Path) -> list[Path]:
    """The checkpoints in a directory, oldest first."""
    return sorted(p for p in directory.glob("step-*") if (p / "state.json").is_file())


def resume(
    directory: Path,
    modules: Mapping[str, Stateful],
    optimizers: Sequence[torch.optim.Optimizer],
    facts: Mapping[str, Any],
    may_change: Collection[str] = (),
    may_grow: Collection[str] = (),
) -> int:
    """Resume from the last readable checkpoint; the steps after it are repeated.

    Args:
        directory: directory of this run's checkpoints.
        modules, optimizers: as for `save`.
        facts: as for `save`; they must equal those in the checkpoint.
        may_change: names of facts that may differ.
        may_grow: dotted names of numbers that may be larger than in the checkpoint.

    Returns:
        Steps done, 0 if there is no checkpoint.

    Raises:
        AnotherRun: the last checkpoint has other facts.
        CheckpointError: there are checkpoints, but none can be read.
    """
    errors: list[CheckpointError] = []
    for checkpoint in reversed(found(directory)):
        try:
            changed = differences(_state(checkpoint)["facts"], json.loads(json.dumps(facts)), may_change, may_grow)
            if changed:
                raise AnotherRun(
                    f"{directory.parent} holds another run ({'; '.join(changed)}): use another directory, "
                    "or the same settings"
                )
            step, _ = restore(checkpoint, modules, optimizers)
        except AnotherRun:
            raise
        except CheckpointError as error:
            errors.append(error)
            continue
        for name in may_grow:
            before, now = _fact(_state(checkpoint)["facts"], name), _fact(facts, name)
            if before != now:
                log.info("%s is %s now, was %s: schedules are those of the longer run from here", name, now, before)
        for passed_over in errors:
            log.warning("%s; falling back to %s", passed_over, checkpoint.name)
        log.info("resuming %s at step %d", directory.parent, step)
        return step
    if errors:
        raise errors[0]
    return 0


def _fact(facts: Mapping[str, Any], name: str) -> Any:
    """A fact by its dotted name; None if there is none."""
    value: Any = facts
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def differences(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    may_change: Collection[str] = (),
    may_grow: Collection[str] = (),
    prefix: str = "",
) -> list[str]:
    """Descriptions of the facts in which two runs differ, except those that may change or grow (dotted names)."""
    found_out = []
    for key in sorted({*before, *now} - set(may_change)):
        a, b, name = before.get(key), now.get(key), f"{prefix}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found_out += differences(a, b, may_change, may_grow, f"{name}.")
        elif a != b and not (name in may_grow and a is not None and b is not None and b > a):
            found_out.append(f"{name} was {a}, now {b}")
    return found_out


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Lock a directory for this process: two runs in one directory would overwrite each other's files.

    Raises:
        CheckpointError: another process is training there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CheckpointError(f"another process is training in '{directory}'") from None
    try:
        yield
    finally:
        lock.release()


def restore(
    checkpoint: Path, modules: Mapping[str, Stateful], optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[int, dict[str, Any]]:
    """Load a checkpoint into these modules and optimisers.

    Returns:
        The step and the facts that were saved.

    Raises:
        CheckpointError: it is damaged, from a newer version, or for another network.
    """
    state = _state(checkpoint)
    try:
        for name, module in modules.items():
            module.load_state_dict(load_file(checkpoint / f"{name}.safetensors"))
        _unflatten(optimizers, load_file(checkpoint / "optimizers.safetensors"), state["optimizers"])
        return state["step"], state["facts"]
    except (OSError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot resume from {checkpoint}: {error!r}") from error


def _state(checkpoint: Path) -> dict[str, Any]:
    """The content of a checkpoint's state.json."""
    try:
        state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT:
            raise CheckpointError(f"{checkpoint} has format {state['format']}, this version reads {FORMAT}")
        return {**state, "step": int(state["step"]), "facts": dict(state["facts"])}
    except CheckpointError:
        raise
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot resume from {checkpoint}: {error!r}") from error


def _flatten(optimizers: Sequence[torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, float]]:
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                key = f"{i}.{index}.{name}"
                if isinstance(value, Tensor):
                    tensors[key] = value.contiguous()
                else:
                    numbers[key] = value
    return tensors, numbers


def _unflatten(
    optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor], numbers: Mapping[str, float]
) -> None:
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Any]] = {}
        for key, value in {**tensors, **numbers}.items():
            which, index, name = key.split(".", 2)
            if int(which) == i:
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # files hold contiguous tensors; restore the original layout so that the same kernels are used
                    values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _flush(path: Path) -> None:
    """Flush a file or a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
