"""Prompts as arrays of token vectors, in order, from a frozen table; without torch.

The table is distilled from all-MiniLM-L6-v2 (Apache-2.0) by `fewstep models build-text`; the trainable part of
the text encoder is part of the network and is exported with it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

BUILT_IN = Path(__file__).parent / "text"
MAX_PROMPT = 32_000


class PromptError(ValueError):
    """A prompt that cannot be used: the message says why."""


@dataclass(frozen=True)
class PromptReport:
    """How well a model knows a prompt.

    Args:
        unknown_words: words that occur in no training caption.
        nearest: the training captions nearest in meaning with their cosine similarity, best first.
        unread: the end of the prompt that does not fit into the text encoder; empty if all of it does.
    """

    unknown_words: tuple[str, ...]
    nearest: tuple[tuple[str, float], ...]
    unread: str = ""


class TokenTable:
    """A table from tokens to vectors.

    Args:
        directory: the directory with `table.safetensors` and `tokenizer.json`.
    """

    def __init__(self, directory: Path = BUILT_IN) -> None:
        arrays = load_file(directory / "table.safetensors")
        self._rows, self._scale, self._weight = arrays["rows"], arrays["scale"], arrays["weight"]
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._ids = lru_cache(1024)(self._read)  # a request needs the ids of its prompt several times

    @property
    def width(self) -> int:
        """The length of a token's vector."""
        return int(self._rows.shape[1])

    def tokens(self, text: str) -> tuple[int, ...]:
        """The rows of the table for the tokens of a text, in order."""
        return self._ids(text)

    def normalised(self, text: str) -> str:
        """A text without pictographs as it is read: in lower case, without accents, control and format characters."""
        normal: str = self._tokenizer.normalizer.normalize_str(text)
        return normal

    def divided(self, text: str, length: int) -> tuple[str, str]:
        """A text's longest beginning of whole words, or failing that of characters, that has at most `length` tokens,
        and the rest."""
        if len(self.tokens(text)) <= length:
            return text, ""
        cut, most = 0, 64
        while most < len(text) and len(self._read(text[:most])) <= length:
            most *= 2  # so that a long text is not read again and again
        part = text[:most]
        for ends in ([found.start() for found in re.finditer(r"\s+", part)], range(len(part))):
            fitting = bisect_right(ends, length, key=lambda end: len(self._read(text[:end])))
            cut = ends[fitting - 1] if fitting and not cut else cut
        return text[:cut], text[cut:].strip()

    def _read(self, text: str) -> tuple[int, ...]:
        spoken = _PICTOGRAPH.sub(self._spoken, text)
        return tuple(int(i) for i in self._tokenizer.encode(spoken, add_special_tokens=False).ids)

    def _spoken(self, found: re.Match[str]) -> str:
        """A pictograph by its Unicode name, unless the table has a vector for it."""
        character = found.group()
        return character if self._tokenizer.token_to_id(character) is not None else f" {spoken(character)} "

    def vectors(self, ids: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of tokens, float32 [len(ids), width], with root mean square 1."""
        rows = np.asarray(ids, dtype=np.int64)
        vectors: NDArray[np.float32] = self._rows[rows].astype(np.float32) * self._scale[rows, None]
        return vectors

    def encode(self, prompts: Sequence[str], length: int) -> dict[str, NDArray[np.float32]]:
        """The condition of a batch of prompts.

        Args:
            prompts: the prompts; the empty one is unconditional.
            length: number of tokens kept of each.

        Returns:
            `text` float32 [b, length, width], zeros after the end, and `text_mask` float32 [b, length], 1 where
            there is a token.
        """
        text = np.zeros((len(prompts), length, self.width), dtype=np.float32)
        mask = np.zeros((len(prompts), length), dtype=np.float32)
        for row, prompt in enumerate(prompts):
            ids = self.tokens(check_prompt(prompt))[:length]
            text[row, : len(ids)] = self.vectors(ids)
            mask[row, : len(ids)] = 1.0
        return {"text": text, "text_mask": mask}

    def meaning(self, text: str) -> NDArray[np.float32]:
        """A unit vector for a whole text, float32 [width]: the mean of its tokens, with more weight on rare ones."""
        (meaning,) = self.meanings([text])
        return np.asarray(meaning)

    def meanings(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """`meaning` of each text, float32 [len(texts), width]; zero for a text without tokens."""
        ids = [self.tokens(text) for text in texts]
        owner = np.repeat(np.arange(len(texts)), [len(one) for one in ids])
        flat = np.concatenate([np.asarray(one, dtype=np.int64) for one in ids])
        summed = np.zeros((len(texts), self.width), dtype=np.float32)
        np.add.at(summed, owner, self.vectors(flat) * self._weight[flat, None])
        unit: NDArray[np.float32] = summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-9)
        return unit


@lru_cache(maxsize=4)
def table(directory: Path = BUILT_IN) -> TokenTable:
    """The token table in a directory, read only once."""
    return TokenTable(directory)


def check_prompt(prompt: str) -> str:
    """Return the prompt, or raise PromptError if it is not valid text or too long."""
    if not isinstance(prompt, str):
        raise PromptError(f"a prompt must be text, got {type(prompt).__name__}")
    if len(prompt) > MAX_PROMPT:
        raise PromptError(f"a prompt must have at most {MAX_PROMPT} characters, got {len(prompt)}")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:  # half of a surrogate pair, which undecodable bytes become
        raise PromptError(f"a prompt must be valid Unicode, got {prompt[error.start]!r} at {error.start}") from None
    return prompt


def spoken(text: str) -> str:
    """A text with its pictographs as words, by their Unicode names: "🍎" is "red apple"; joiners and skin tones are
    left out, and so is a character that this Python's Unicode has no name for."""
    return " ".join(_PICTOGRAPH.sub(lambda found: f" {_name(found.group())} ", text).split())


def _name(character: str) -> str:
    if character in _SILENT:
        return ""
    name = unicodedata.name(character, "").lower().replace("-", " ")
    return name.removeprefix("regional indicator symbol letter ")


def words(text: str) -> list[str]:
    """The words of a text in lower case, and each run of pictographs, which carry meaning too."""
    return _WORDS.findall(text.lower())


class Captions:
    """The captions that a model was trained on, which show what it knows.

    Args:
        captions: the captions, without duplicates.
        other_words: words seen in training besides the captions (keywords, colours, styles).
        tokens: the table that gives the meaning of texts.
    """

    def __init__(self, captions: Sequence[str], other_words: Sequence[str], tokens: TokenTable) -> None:
        self.captions = list(captions)
        self.other_words = sorted(set(other_words))
        self._tokens = tokens

    @cached_property
    def _meanings(self) -> NDArray[np.float32]:
        return self._tokens.meanings(self.captions)

    @cached_property
    def known(self) -> frozenset[str]:
        """Every word that occurred in training, and function words."""
        seen = {word for text in (*self.captions, *self.other_words) for word in self._words(text)}
        return frozenset(seen | _FUNCTION_WORDS)

    def _words(self, text: str) -> list[str]:
        """The words of a text as the tokenizer reads them: what has the same tokens has the same words."""
        found: list[str] = []
        for place, part in enumerate(_RUNS.split(text)):
            is_run = place % 2 == 1
            found += words(part if is_run else self._tokens.normalised(_PICTOGRAPH.sub(" ", part)))
        return found

    def _knows(self, word: str) -> bool:
        """Whether a word, or every word of a pictograph's name, occurred in training."""
        named = words(spoken(word)) if _PICTOGRAPH.match(word) else []
        return word in self.known or (bool(named) and self.known.issuperset(named))

    def report(self, prompt: str, length: int, count: int = 3) -> PromptReport:
        """Report which words of a prompt are unknown and which captions are nearest to it, as far as `length` tokens
        of it are read."""
        read, unread = self._tokens.divided(prompt, length)
        unknown = tuple(dict.fromkeys(word for word in self._words(read) if not self._knows(word)))
        nearest: tuple[tuple[str, float], ...] = ()
        meaning = self._tokens.meaning(read)
        if self.captions and meaning.any():  # a prompt without tokens has no neighbours
            similarity = self._meanings @ meaning
            count = min(count, len(similarity))
            likely = np.flatnonzero(similarity >= np.partition(similarity, -count)[-count])
            best = likely[np.argsort(-similarity[likely], kind="stable")][:count]
            nearest = tuple((self.captions[i], round(float(similarity[i]), 4)) for i in best)
        return PromptReport(unknown, nearest, unread)


# Unicode's blocks of pictographs, with joiners and variation selectors
_RUN = "[\u2190-\u2bff\U0001f000-\U0001faff][\u200d\ufe0f\u2190-\u2bff\U0001f000-\U0001faff]*"
_RUNS = re.compile(f"({_RUN})")
_WORDS = re.compile(f"[^\\W_]+|{_RUN}")
_PICTOGRAPH = re.compile("[\u200d\ufe0f\u2190-\u2bff\U0001f000-\U0001faff]")
_SILENT = {"\u200d", "\ufe0f", *"🏻🏼🏽🏾🏿"}
_FUNCTION_WORDS = frozenset(
    words("a an the of and or with in on at to for by from is are it its this that i you my me we")
)
