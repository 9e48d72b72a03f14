"""The halves of real pictures that a model fills without their captions or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewstep.generation import GeneratedImage, Model, RequestError
from fewstep.lab import denoising, restoration
from fewstep.lab.denoising import denoisings
from fewstep.lab.restoration import Restoration, restorations
from fewstep.measure.subjects import EmojiSubject


def test_every_setting_is_counted_and_judged(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoration, "SETTINGS", ((1, 0), (1, 2), (2, 1)))
    rows = restorations(pair[0], subject, n=3)
    assert [(row.steps, row.fit, row.evaluations) for row in rows] == [(1, 0, 1), (1, 2, 5), (2, 1, 6)]
    assert all(0 < row.error < 1 and 0 <= row.right <= 1 for row in rows)
    assert restorations(pair[0], subject, n=3) == rows


def test_the_true_half_has_no_error_and_is_recognised(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that hands the picture back as it came, mask and all, would fill in the truth."""
    monkeypatch.setattr(restoration, "SETTINGS", ((1, 0),))
    real = Model.generate

    def truth(self: Model, prompt: str, **choices: Any) -> GeneratedImage:
        drawn = real(self, prompt, **choices)
        drawn.paste(choices["edit"].image)
        return drawn

    monkeypatch.setattr(Model, "generate", truth)
    (row,) = restorations(pair[0], subject, n=12)
    queries = subject.queries(12, 0)
    right = [
        name == query.name for name, query in zip(subject.judge(subject.real(queries, 0)).names, queries, strict=True)
    ]
    assert row.error == pytest.approx(0, abs=0.005)  # bytes
    assert row.right == pytest.approx(np.mean(right), abs=0.1)


def test_a_diffusion_model_is_refused(pair: tuple[Model, Model], subject: EmojiSubject) -> None:
    with pytest.raises(RequestError, match="consistency"):
        restorations(pair[1], subject, n=2)


@pytest.mark.parametrize("edit", ["colorize", "super-resolve"])
def test_other_edits_stand_beside_what_needs_no_model(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch, edit: Restoration
) -> None:
    monkeypatch.setattr(restoration, "SETTINGS", ((1, 0), (1, 2)))
    rows = restorations(pair[0], subject, n=3, edit=edit)
    assert [(row.steps, row.fit, row.evaluations) for row in rows] == [(0, 0, 0), (1, 0, 1), (1, 2, 5)]
    assert len({row.error for row in rows}) == 3
    assert all(0 < row.error < 1 for row in rows)


@pytest.mark.parametrize("captioned", [False, True])
def test_a_model_is_given_the_captions_only_if_asked(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch, captioned: bool
) -> None:
    monkeypatch.setattr(restoration, "SETTINGS", ((1, 0),))
    real, prompts = Model.generate, []

    def heard(self: Model, prompt: str, **choices: Any) -> GeneratedImage:
        prompts.append(prompt)
        return real(self, prompt, **choices)

    monkeypatch.setattr(Model, "generate", heard)
    restorations(pair[0], subject, n=3, edit="colorize", captioned=captioned)
    assert prompts == [query.prompt if captioned else "" for query in subject.queries(3, 0)]


def test_what_noise_is_left_stands_beside_what_was_there(
    pair: tuple[Model, Model], subject: EmojiSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denoising, "NOISES", (0.05, 0.2))
    rows = denoisings(pair[0], subject, n=3)
    assert [row.noise for row in rows] == [0.05, 0.2]
    for row in rows:
        assert 0.3 * row.noise < row.before < row.noise  # clipped
        assert 0.3 * row.noise < row.estimated < row.noise
        assert row.error != row.error_known_noise
    monkeypatch.setattr(Model, "generate", lambda self, edit, **choices: edit.image)  # a model that does nothing
    assert all(row.error == row.error_known_noise == row.before for row in denoisings(pair[0], subject, n=3))
