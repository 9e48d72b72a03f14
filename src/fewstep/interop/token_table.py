"""Distil a sentence encoder into a table of token vectors, as model2vec does (Minish Lab, 2024).

Each token of the vocabulary is encoded alone; the vectors are reduced by PCA and stored in int8. Encoding a
prompt is then a table look-up, and words that occur in no caption still get vectors close to their meaning.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer


def build_token_table(source: str, out: Path, width: int = 128, batch: int = 512) -> dict[str, Any]:
    """Write `table.safetensors` and `tokenizer.json` to `out`.

    Args:
        source: a sentence-transformers model, by directory or hub name (all-MiniLM-L6-v2 for the shipped table).
        out: the directory to write to, created if missing.
        width: number of components that PCA keeps.
        batch: number of tokens encoded at once.

    Returns:
        A summary: the number of tokens, the width and the share of the variance kept.

    Raises:
        ImportError: transformers or torch is missing.
        ValueError: the vocabulary has no whole words.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    reference = AutoTokenizer.from_pretrained(source)
    model = AutoModel.from_pretrained(source).eval()
    vocabulary = sorted(reference.get_vocab().items(), key=lambda item: item[1])
    kept = [(token, index) for token, index in vocabulary if not token.startswith("[unused")]
    begin, end = reference.cls_token_id, reference.sep_token_id
    vectors = []
    with torch.inference_mode():
        for first in range(0, len(kept), batch):
            ids = torch.tensor([[begin, index, end] for _, index in kept[first : first + batch]])
            vectors.append(model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(dim=1))
    full = torch.cat(vectors).double().numpy()
    centred = full - full.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :width]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(width)])
    reduced = centred @ axes
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    peak = np.abs(reduced).max(axis=1, keepdims=True)
    weight = _rarity([token for token, _ in kept])
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "rows": np.round(reduced / peak * 127).astype(np.int8),
            "scale": (peak[:, 0] / 127 * math.sqrt(width)).astype(np.float32),
            "weight": weight.astype(np.float32),
        },
        out / "table.safetensors",
        metadata={"source": Path(source).name if Path(source).exists() else source, "width": str(width)},
    )
    _write_tokenizer(reference.backend_tokenizer, [token for token, _ in kept], out / "tokenizer.json")
    kept_variance = float(values[::-1][:width].sum() / values.sum())
    return {"tokens": len(kept), "width": width, "variance": round(kept_variance, 4)}


def _rarity(tokens: list[str], a: float = 1e-4) -> Any:
    """Smooth inverse frequency a/(a + p): rarer words say more about the meaning of a text.

    WordPiece lists whole words by decreasing frequency after its single characters, so p follows from the rank by
    Zipf's law.
    """
    first = next((i for i, token in enumerate(tokens) if len(token) > 1 and token.isalpha()), None)
    if first is None:
        raise ValueError("the encoder's vocabulary has no whole words: give one with a WordPiece tokenizer")
    rank = np.maximum(np.arange(len(tokens)) - first, 0) + 1.0
    frequency = 1 / rank / (1 / rank).sum()
    return a / (a + frequency)


def _write_tokenizer(tokenizer: Tokenizer, tokens: list[str], path: Path) -> None:
    """Write the tokenizer with its vocabulary renumbered to the rows of the table, and no tokens added to a text."""
    spec = json.loads(tokenizer.to_str())
    ids = {token: row for row, token in enumerate(tokens)}
    spec["model"]["vocab"] = ids
    spec["added_tokens"] = [{**token, "id": ids[token["content"]]} for token in spec["added_tokens"]]
    spec.update(post_processor=None, padding=None, truncation=None)
    path.write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
