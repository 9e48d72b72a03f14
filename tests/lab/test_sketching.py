"""Whether sketches and styles are followed: on a model that hands the sketch back, and on one that ignores it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewstep.core.parameterisations import Targets
from fewstep.generation import GeneratedImage, Model, load
from fewstep.lab.sketching import shape, sketched, styled
from fewstep.measure.subjects import EmojiSubject
from judging import tiny_model


def test_a_shape_has_no_holes() -> None:
    ring = np.zeros((4, 12, 12), dtype=np.float32)
    ring[3, 2:10, 2:10] = 1
    ring[3, 4:8, 4:8] = 0
    filled = shape(ring)
    assert filled.sum() == 64
    open_ring = ring.copy()
    open_ring[3, 4:8, 6] = 0
    open_ring[3, 8:12, 6] = 0  # a way out
    assert shape(open_ring).sum() < 64 - 16 + 1
    assert not shape(np.zeros((4, 12, 12), dtype=np.float32)).any()


def test_a_model_that_hands_the_sketch_back_follows_it(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Model.generate

    def copied(self: Model, prompt: str, **choices: Any) -> GeneratedImage:
        drawn = real(self, prompt, seed=choices["seed"])
        if choices["control"] is not None:
            drawn.paste(choices["control"])
        else:
            drawn.paste(Image.new("RGBA", drawn.size))
        return drawn

    monkeypatch.setattr(Model, "generate", copied)
    rows = {row.kind: row for row in sketched(pair[0], subject, n=8)}
    assert set(rows) == {"lines", "contour", "patches", "blob"}
    assert rows["patches"].overlap > 0.9
    assert rows["blob"].overlap > 0.8
    assert {row.overlap_without for row in rows.values()} == {0.0}
    assert rows["patches"].right_real > 0.3


def test_strengths_and_styles_are_asked_for(
    subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved = tiny_model(tmp_path / "sketcher", Targets.CLEAN, subject.dataset.captions, control=True)
    model = load(saved.directory, threads=1)
    asked: list[tuple[str, float | None]] = []
    real = Model.generate

    def noted(self: Model, prompt: str, **choices: Any) -> GeneratedImage:
        asked.append((prompt, choices.get("control_strength")))
        return real(self, prompt, **choices)

    monkeypatch.setattr(Model, "generate", noted)
    rows = sketched(model, subject, n=2, strengths=(0.0, 2.0))
    assert [row.strength for row in rows] == [0.0, 2.0] * 4
    assert [row.overlap for row in rows if row.strength == 0] == [rows[0].overlap_without] * 4  # not looked at
    assert {strength for _, strength in asked} == {None, 0.0, 2.0}
    asked.clear()
    names = [row.style for row in styled(model, subject, n=2)]
    assert names == list(subject.dataset.styles)
    assert all(any(prompt.startswith(style) for prompt, _ in asked) for style in names)
