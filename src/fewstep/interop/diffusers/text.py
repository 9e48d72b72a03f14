"""Prompts as the conditions of diffusers networks: CLIP and T5 through transformers, each prompt encoded once.

A pipeline family's way with prompts joins by one entry in `RECIPES`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewstep.interop.diffusers.folders import Folder
from fewstep.models.parts import ModelError

log = logging.getLogger(__name__)

ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel")
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
_SAMPLES, _SAMPLE = 256, 4096


@dataclass(frozen=True)
class Encoder:
    """A text encoder with its tokenizer."""

    model: Any
    tokenizer: Any

    def tokens(self, prompt: str, length: int | None = None) -> Mapping[str, Tensor]:
        """`input_ids` and `attention_mask`, each [1, length]: padded, and cut where the prompt is longer, which is
        logged as a warning."""
        most = length or self.tokenizer.model_max_length
        if (count := len(self.tokenizer(prompt, verbose=False)["input_ids"])) > most:
            log.warning("a prompt has %d tokens, of which this text encoder reads %d: '%.60s…'", count, most, prompt)
        encoded: Mapping[str, Tensor] = self.tokenizer(
            [prompt], padding="max_length", max_length=most, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        return encoded

    def clip(self, prompt: str) -> Any:
        """CLIP's outputs, hidden states among them; padding is attended to, as these networks were trained."""
        return self.model(self.tokens(prompt)["input_ids"], output_hidden_states=True)


Encoders = Mapping[str, Encoder]


@dataclass(frozen=True)
class Recipe:
    """How a family encodes a prompt.

    Args:
        encode: conditions [1, ...] from (encoders by their names in the pipeline, a prompt, tokens kept for T5, the
            width of the network's text).
        encoders: those that it must have.
        optional: those that it may have.
        length: tokens kept for T5; 0 where there is none.
    """

    encode: Callable[[Encoders, str, int, int], dict[str, Tensor]]
    encoders: tuple[str, ...]
    optional: tuple[str, ...] = ()
    length: int = 0


def _clip(encoders: Encoders, prompt: str, length: int, width: int) -> dict[str, Tensor]:
    """Stable Diffusion 1.x and 2.x: the last hidden state."""
    return {"text": encoders["text_encoder"].clip(prompt)[0]}


def _sdxl(encoders: Encoders, prompt: str, length: int, width: int) -> dict[str, Tensor]:
    """SDXL: last but one hidden states side by side, and the projection of the second encoder."""
    outputs = [encoders[name].clip(prompt) for name in ("text_encoder", "text_encoder_2") if name in encoders]
    text = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return {"text": text, "pooled": outputs[-1].text_embeds}


def _sd3(encoders: Encoders, prompt: str, length: int, width: int) -> dict[str, Tensor]:
    """SD3: two CLIPs side by side, widened with zeros, then T5; zeros in the place of a T5 that is left out."""
    outputs = [encoders[name].clip(prompt) for name in ("text_encoder", "text_encoder_2")]
    clip = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    if "text_encoder_3" in encoders:
        t5 = _t5_states(encoders["text_encoder_3"], prompt, length)
    else:
        t5 = clip.new_zeros((1, length, width))
    wide = torch.nn.functional.pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
    return {
        "text": torch.cat([wide, t5.to(wide)], dim=1),
        "pooled": torch.cat([output.text_embeds for output in outputs], dim=-1),
    }


def _flux(encoders: Encoders, prompt: str, length: int, width: int) -> dict[str, Tensor]:
    """FLUX.1: T5's states, CLIP's pooled one."""
    pooled = encoders["text_encoder"].clip(prompt).pooler_output
    return {"text": _t5_states(encoders["text_encoder_2"], prompt, length), "pooled": pooled}


def _t5_states(encoder: Encoder, prompt: str, length: int) -> Tensor:
    states: Tensor = encoder.model(encoder.tokens(prompt, length)["input_ids"])[0]
    return states


def _t5(encoders: Encoders, prompt: str, length: int, width: int) -> dict[str, Tensor]:
    """PixArt: T5's states of the prompt in lower case, and which of them stand for it."""
    encoder = encoders["text_encoder"]
    tokens = encoder.tokens(prompt.lower().strip(), length)
    states = encoder.model(tokens["input_ids"], attention_mask=tokens["attention_mask"])[0]
    return {"text": states, "text_mask": tokens["attention_mask"].to(states.dtype)}


RECIPES: Mapping[str, Recipe] = {
    "clip": Recipe(_clip, ("text_encoder",)),
    "flux": Recipe(_flux, ("text_encoder", "text_encoder_2"), length=512),
    "sd3": Recipe(_sd3, ("text_encoder", "text_encoder_2"), ("text_encoder_3",), length=256),
    "sdxl": Recipe(_sdxl, ("text_encoder_2",), ("text_encoder",)),
    "t5": Recipe(_t5, ("text_encoder",), length=120),
}
"""Ways with prompts, by the names that `fewstep.interop.diffusers.families` gives them."""


@dataclass(frozen=True)
class PromptCache:
    """What prompts were encoded to: the last ones in memory, all of them in a directory if one is given.

    Args:
        directory: where to keep them, made when it is needed; None for memory alone.
        entries: prompts kept in memory.
    """

    directory: Path | None = None
    entries: int = 256
    _recent: OrderedDict[str, dict[str, Tensor]] = field(default_factory=OrderedDict, repr=False, compare=False)

    def get(self, key: str) -> dict[str, Tensor] | None:
        """What was put under the key, or None.

        Raises:
            ModelError: the file of that key cannot be read.
        """
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        if self.directory is None or not (path := self._path(key)).exists():
            return None
        try:
            return self._remember(key, load_file(path))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"'{path}' is not readable as an encoded prompt: delete it") from error

    def put(self, key: str, arrays: dict[str, Tensor]) -> None:
        """Keep the arrays; a file appears whole or not at all."""
        self._remember(key, arrays)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            scratch = self.directory / f".{key}.{os.getpid()}"
            save_file({name: values.contiguous() for name, values in arrays.items()}, scratch)
            scratch.replace(self._path(key))

    def _path(self, key: str) -> Path:
        return Path(self.directory or ".") / f"{key}.safetensors"

    def _remember(self, key: str, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        self._recent[key] = arrays
        self._recent.move_to_end(key)
        while len(self._recent) > self.entries:
            self._recent.popitem(last=False)
        return arrays


@dataclass(frozen=True)
class PromptEncoder:
    """The text encoders of a pipeline, opened when a prompt is not in the cache.

    Args:
        folder: of the pipeline.
        recipe: a name in `RECIPES`.
        width: of the network's text.
        length: tokens kept for T5; None for the family's own.
        cache: of encoded prompts.
        dtype: the encoders' precision.
        device: "cpu", "cuda", "cuda:1", "mps".
    """

    folder: Folder
    recipe: str
    width: int
    length: int | None = None
    cache: PromptCache = field(default_factory=PromptCache)
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The conditions of these prompts, on the CPU: `text`, and `pooled` or `text_mask` where the family has them.

        A prompt is encoded alone, so that its numbers do not depend on the others.

        Raises:
            ModelError: the pipeline lacks an encoder that it needs, or has one that is not supported or not readable.
        """
        rows = [self._one(prompt) for prompt in prompts]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]} if rows else {}

    def _one(self, prompt: str) -> dict[str, Tensor]:
        length = self.length or RECIPES[self.recipe].length
        described = "\0".join([self.fingerprint, self.recipe, str(length), str(self.dtype), prompt])
        key = hashlib.sha256(described.encode()).hexdigest()
        if (kept := self.cache.get(key)) is not None:
            return kept
        with torch.no_grad():
            encoded = RECIPES[self.recipe].encode(self.encoders, prompt, length, self.width)
        arrays = {name: values.cpu() for name, values in encoded.items()}
        self.cache.put(key, arrays)
        return arrays

    @property
    def _names(self) -> tuple[str, ...]:
        kind, index = RECIPES[self.recipe], self.folder
        return (*kind.encoders, *(name for name in kind.optional if index.class_of(name) is not None))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the encoders' files: each small one whole, and of weights the header and samples throughout."""
        for name in self._names:
            self._allowed(name, ENCODERS)
            self._allowed(_tokenizer(name), TOKENIZERS)
        digest = hashlib.sha256()
        for name in sorted([*self._names, *map(_tokenizer, self._names)]):
            if not (self.folder.path / name).is_dir():
                raise ModelError(f"'{self.folder.source}' has no folder {name}, which its model_index.json names")
            for file in sorted((self.folder.path / name).iterdir()):
                digest.update(f"{name}/{file.name}\0{file.stat().st_size}\0".encode())
                for part in _samples(file):
                    digest.update(part)
        return digest.hexdigest()

    @cached_property
    def encoders(self) -> Encoders:
        """The encoders by name, opened.

        Raises:
            ModelError: one of them cannot be opened.
        """
        return {name: self._open(name) for name in self._names}

    def _open(self, name: str) -> Encoder:
        import transformers  # takes seconds, which a cache with every prompt saves

        try:
            tokenizer = getattr(transformers, self._allowed(_tokenizer(name), TOKENIZERS)).from_pretrained(
                self.folder.path / _tokenizer(name)
            )
            model = getattr(transformers, self._allowed(name, ENCODERS)).from_pretrained(
                self.folder.path / name,
                use_safetensors=True,
                variant=self.folder.variant(name),
                dtype=self.dtype,
            )
        except (OSError, ValueError, ImportError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"'{self.folder.source}/{name}' cannot be opened: {reason}") from error
        return Encoder(model.to(self.device).eval().requires_grad_(False), tokenizer)

    def _allowed(self, name: str, classes: Sequence[str]) -> str:
        named = self.folder.class_of(name)
        if named not in classes:
            raise ModelError(
                f"'{self.folder.source}' has {named or 'nothing'} as its {name}, and prompts can be encoded with one "
                f"of {', '.join(classes)}"
            )
        return str(named)


def _tokenizer(encoder: str) -> str:
    """text_encoder_2 → tokenizer_2."""
    return encoder.replace("text_encoder", "tokenizer")


def _samples(file: Path) -> list[bytes]:
    size = file.stat().st_size
    with file.open("rb") as opened:
        if size <= _SAMPLES * _SAMPLE:
            return [opened.read()]
        parts = []
        for i in range(_SAMPLES):
            opened.seek(i * (size - _SAMPLE) // (_SAMPLES - 1))
            parts.append(opened.read(_SAMPLE))
        return parts
