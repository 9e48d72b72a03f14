"""Checkpoints: written in one rename, the last few kept, what is damaged or foreign refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fewstep.training import checkpoints
from fewstep.training.checkpoints import CheckpointError, found, restore, save
from fewstep.training.optimizers import OptimizerConfig, build


def _parts(seed: int = 0, kind: Any = "muon") -> tuple[dict[str, nn.Module], list[torch.optim.Optimizer]]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)).to(memory_format=torch.channels_last)
    optimizers = build(network, OptimizerConfig(kind=kind))
    network(torch.randn(2, 3, 8, 8)).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()
    return {"student": network}, optimizers


def _saved(folder: Path, step: int = 5, keep: int = 3) -> Path:
    modules, optimizers = _parts()
    return save(folder, step, modules, optimizers, {"seed": 1, "list": [1, 2]}, keep)


@pytest.mark.parametrize("kind", ["muon", "adamw", "radam"])
def test_everything_comes_back_in_the_layout_it_had(tmp_path: Path, kind: str) -> None:
    modules, optimizers = _parts(0, kind)
    path = save(tmp_path, 7, modules, optimizers, {"seed": 1, "list": [1, 2]})
    others, other_optimizers = _parts(1, kind)
    assert restore(path, others, other_optimizers) == (7, {"seed": 1, "list": [1, 2]})
    for ours, theirs in zip(others["student"].parameters(), modules["student"].parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
    for ours, theirs in zip(other_optimizers, optimizers, strict=True):
        for p, q in zip(ours.param_groups[0]["params"], theirs.param_groups[0]["params"], strict=True):
            assert ours.state[p].keys() == theirs.state[q].keys()
            for name, value in ours.state[p].items():
                assert torch.equal(value, theirs.state[q][name])
                assert value.dtype == theirs.state[q][name].dtype
                assert value.stride() == theirs.state[q][name].stride()


def test_the_last_few_stay(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        _saved(tmp_path, step, keep=2)
    assert [path.name for path in found(tmp_path)] == ["step-00000006", "step-00000008"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_cut_short_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _saved(tmp_path, 1)

    def fails(*args: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_file", fails)
    with pytest.raises(OSError, match="no space left"):
        _saved(tmp_path, 2)
    assert [path.name for path in found(tmp_path)] == ["step-00000001"]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    _saved(tmp_path, 1)
    modules, optimizers = _parts(3)
    path = save(tmp_path, 1, modules, optimizers, {"seed": 2})
    assert restore(path, *_parts(4))[1] == {"seed": 2}


def _truncate(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:-9])


def _rewrite(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def _edit(**changes: Any) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        state = json.loads((path / "state.json").read_text())
        state.update(changes)
        (path / "state.json").write_text(json.dumps({k: v for k, v in state.items() if v is not None}))

    return apply


DAMAGE = {
    "weights cut": _truncate("student.safetensors"),
    "optimisers cut": _truncate("optimizers.safetensors"),
    "weights empty": _rewrite("student.safetensors", b""),
    "weights are text": _rewrite("student.safetensors", b"not numbers at all"),
    "weights missing": lambda path: (path / "student.safetensors").unlink(),
    "optimisers missing": lambda path: (path / "optimizers.safetensors").unlink(),
    "state cut": _truncate("state.json"),
    "state is no text": _rewrite("state.json", b"\xff\xfe\x00\x80"),
    "state is a list": _rewrite("state.json", b"[]"),
    "state without format": _rewrite("state.json", b"{}"),
    "state without step": _edit(step=None),
    "state without facts": _edit(facts=None),
    "optimiser numbers are odd": _edit(optimizers={"nonsense": 1.0}),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    path = _saved(tmp_path)
    DAMAGE[kind](path)
    with pytest.raises(CheckpointError, match="step-00000005"):
        restore(path, *_parts(1))


def test_a_newer_format_is_refused_by_saying_so(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    _edit(format=99)(path)
    with pytest.raises(CheckpointError, match="has format 99, this version reads 1"):
        restore(path, *_parts(1))


def test_another_networks_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1))
    with pytest.raises(CheckpointError, match="size mismatch"):
        restore(path, {"student": network}, build(network, OptimizerConfig()))
