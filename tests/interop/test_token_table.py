"""A sentence encoder becomes a table: tokens in one numbering, meanings kept, nothing of the machine inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.implementations import BertWordPieceTokenizer

from fewstep.cli.main import main
from fewstep.interop.token_table import _rarity
from fewstep.models.text import TokenTable

WORDS = [
    "[PAD]",
    "[unused0]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz",
    "the",
    "cat",
    "dog",
]
PIECES = [*WORDS, "red", "##s", "hot", "apple", "!"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of a few words."""
    transformers: Any = pytest.importorskip("transformers")
    torch: Any = pytest.importorskip("torch")
    directory = tmp_path_factory.mktemp("secret-place") / "encoder"
    directory.mkdir()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(PIECES),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        initializer_range=1.0,
    )
    transformers.BertModel(config).save_pretrained(directory)
    words = BertWordPieceTokenizer({piece: i for i, piece in enumerate(PIECES)})
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words._tokenizer, **special).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def built(encoder: Path) -> Path:
    out = encoder.parent / "table"
    with pytest.raises(SystemExit) as stop:
        main(["models", "build-text", str(encoder), "--out", str(out), "--width", "16"])
    assert not stop.value.code
    return out


def test_a_text_is_split_as_the_encoder_splits_it_and_unused_tokens_have_no_row(encoder: Path, built: Path) -> None:
    import transformers

    table = TokenTable(built)
    kept = [piece for piece in PIECES if not piece.startswith("[unused")]
    reference = transformers.AutoTokenizer.from_pretrained(encoder)
    for text in ("the red cats!", "HOT apple", "", "zebra 猫"):
        pieces = reference.convert_ids_to_tokens(reference.encode(text, add_special_tokens=False))
        assert [kept[row] for row in table.tokens(text)] == pieces


def test_tokens_keep_their_likeness(encoder: Path, built: Path) -> None:
    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(encoder).eval()
    begin, end = PIECES.index("[CLS]"), PIECES.index("[SEP]")
    rows = [i for i, piece in enumerate(PIECES) if not piece.startswith("[unused")]
    ids = torch.tensor([[begin, i, end] for i in rows])
    with torch.inference_mode():
        full = (
            model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(dim=1).double().numpy()
        )
    full -= full.mean(axis=0)
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    table = TokenTable(built)
    vectors = table.vectors(np.arange(len(rows))) / np.sqrt(table.width)
    np.testing.assert_allclose(vectors @ vectors.T, full @ full.T, atol=0.03)  # all 16 components are kept


def test_rare_words_weigh_more(built: Path) -> None:
    table = TokenTable(built)
    (the,), (apple,) = table.tokens("the"), table.tokens("apple")
    assert 0 < table._weight[the] < table._weight[apple] <= 1


def test_an_encoder_without_whole_words_is_refused() -> None:
    with pytest.raises(ValueError, match="has no whole words"):
        _rarity(["[PAD]", "a", "##b"])


def test_the_table_does_not_say_where_the_encoder_lay(built: Path) -> None:
    for file in built.iterdir():
        assert b"secret-place" not in file.read_bytes()
    assert sorted(file.name for file in built.iterdir()) == ["table.safetensors", "tokenizer.json"]


def test_without_transformers_the_command_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SystemExit) as stop:
        main(["models", "build-text", "anything", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err
        == "fewstep: building a token table needs more packages: pip install 'fewstep[text]'\n"
    )
    assert list(tmp_path.iterdir()) == []
