"""Tasks and models so small that a whole sweep takes seconds: for tests of everything around the training loop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workbench.errors import UsageError
from workbench.formulations import Classification, Example, Formulation, Labelled, Rows, Shots, text_generation
from workbench.formulations.base import padded_inputs
from workbench.objectives import Classes, Inference, Objective, Read
from workbench.tasks import request
from workbench.tasks.base import Splits, Task

_WORDS = 64
_POOL = 256  # sentences that labels can be bought for
_KEY = 7  # a sentence is of class 1 when it holds this word


@dataclass(frozen=True)
class TinyTask(Task):
    """Tell whether a sentence of random words holds a certain one: a task that a model of 20,000 parameters learns.

    Attributes:
        train: Labelled examples to train on.
        dev: Examples that grade each checkpoint.
        seed: Seed of the sentences and their order.
        data: What the data set is called in records.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    teachable: ClassVar[bool] = True

    train: int = 64
    dev: int = 32
    seed: int = 0
    data: str = "tiny"

    def splits(self) -> Splits:
        return Splits(self._sentences(self.train, 0), self._sentences(self.dev, 1), self._sentences(self.dev, 2))

    def pool(self) -> Sequence[Example]:
        return self._sentences(max(_POOL, self.train), 0)

    def class_names(self) -> Sequence[str]:
        return ("0", "1")

    def class_of(self, example: Example) -> str:
        return str(example["label"])

    def with_class(self, example: Example, name: str) -> Example:
        return {**example, "label": int(name)}

    def told(self, example: Example, prediction: Any) -> Example | None:
        return {**example, "label": int(prediction)}

    def digest(self) -> str:
        return hashlib.sha256(f"tiny-1/{self.seed}".encode()).hexdigest()

    def formulation(self, kind: str) -> Formulation:
        if kind not in ("encoder", "decoder", "encoder-decoder"):
            raise UsageError(f"a model of kind {kind!r} reads no words.")
        return TinyFormulation()

    def asked(self) -> Mapping[str, str]:
        return {"words": request.NUMBERS}

    def example(self, row: Mapping[str, Any]) -> Example:
        return {**row, "label": 0}

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> dict[str, float]:
        right = sum(example["label"] == p for example, p in zip(examples, predictions, strict=True))
        return {"accuracy": 100.0 * right / len(examples)}

    def _sentences(self, count: int, side: int) -> list[dict[str, Any]]:
        # Each split has random numbers of its own: more training
        # sentences leave the dev and test sentences as they are.
        rng = np.random.default_rng((self.seed, side))
        sentences = []
        for i in range(count):
            # The key is not among these words, so that a sentence holds it only where it is put in.
            words = rng.integers(_KEY + 1, _WORDS, int(rng.integers(4, 13)))
            # Every other sentence, so that both classes are equally frequent in any split.
            if i % 2:
                words[rng.integers(len(words))] = _KEY
            sentences.append({"id": f"{side}/{i}", "words": words.tolist(), "label": i % 2})
        return sentences


@dataclass(frozen=True)
class TinyFormulation(Formulation):
    """One class of two, the words being the tokens.

    Attributes:
        head: The transformers class of the model.
        most: Tokens that a row is said to have at most; 0: no limit.
    """

    head: str = "AutoModelForSequenceClassification"
    most: int = 0

    @property
    def auto_class(self) -> str:
        return self.head

    @property
    def longest_row(self) -> int:
        return self.most

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"num_labels": 2}

    @property
    def objective(self) -> Objective:
        return Classes()

    def inference(self, processor: Any) -> Inference:
        return Read(lambda output, batch: output["logits"].argmax(-1).tolist())

    def encode(self, examples: Sequence[Example], processor: Any, *, answers: bool = True, shots: Shots = ()) -> Rows:
        words = [np.array(example["words"], np.int32) for example in examples]
        labels = np.array([example["label"] for example in examples], np.int64)
        ones = np.ones(len(examples), np.int64)
        return Rows({"input_ids": words, "labels": labels}, np.arange(len(examples)), ones, padded_inputs(processor))

    def decode(self, examples: Sequence[Example], rows: Rows, outputs: Sequence[Any], processor: Any) -> list[Any]:
        return list(outputs)


@dataclass(frozen=True)
class TinyText(TinyTask):
    """Asks the same question of every kind of model: one that writes answers in words, an encoder by a class."""

    def formulation(self, kind: str) -> Formulation:
        if kind == "encoder":
            return Classification(_ANSWERS, _sentence, lambda example: [_answer(example)], max_length=16)
        return text_generation(kind, self, _sentence, _answer, max_new_tokens=8)

    def class_names(self) -> Sequence[str]:
        return _ANSWERS

    def class_of(self, example: Example) -> str:
        return _answer(example)

    def with_class(self, example: Example, name: str) -> Example:
        return {**example, "label": _ANSWERS.index(name)}

    def told(self, example: Example, prediction: str | Labelled) -> Example | None:
        said = prediction.labels[0] if isinstance(prediction, Labelled) else prediction
        return {**example, "label": _ANSWERS.index(said)} if said in _ANSWERS else None

    def score(self, examples: Sequence[Example], predictions: Sequence[str | Labelled]) -> dict[str, float]:
        given = [p.labels[0] if isinstance(p, Labelled) else p for p in predictions]
        return {"accuracy": 100.0 * float(np.mean([_answer(e) == p for e, p in zip(examples, given, strict=True)]))}


_ANSWERS = ("no", "yes it is")


def _sentence(example: Example) -> str:
    return " ".join(f"w{word}" for word in example["words"])


def _answer(example: Example) -> str:
    return _ANSWERS[example["label"]]


def tiny_model(folder: Path, *, layers: int = 2, width: int = 32) -> str:
    """Write a tiny BERT with random weights, and a tokeniser of words, into `folder`; return its name for a recipe."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3} | {f"w{i}": i for i in range(4, _WORDS)}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    config = BertConfig(
        vocab_size=_WORDS,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=32,
        num_labels=2,
    )
    _write(BertModel, config, folder)
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return str(folder)


CHAT = (
    "{% for turn in messages %}<{{ turn['role'] }}>{{ turn['content'] }}<over>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
"""A chat template whose turns end in a token that is not the tokeniser's end token, as those of many models do."""


def tiny_decoder(folder: Path, *, chat: bool = True, tied: bool = True, width: int = 32) -> str:
    """Write a tiny Llama with random weights, and a byte-level tokeniser, into `folder`; return its name for a recipe.

    Args:
        folder: Where it goes.
        chat: With the chat template `CHAT`.
        tied: The output matrix is that of the embeddings.
        width: Width of the model.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    words = _bytes(chat=CHAT if chat else None)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        # Fewer than attention heads, as in many Llama
        # models, so that grouped attention is tested too.
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        pad_token_id=words.pad_token_id,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    _write(LlamaForCausalLM, config, folder)
    words.save_pretrained(folder)
    return str(folder)


def tiny_seq2seq(folder: Path, *, width: int = 32) -> str:
    """Write a tiny T5 with random weights, and a byte-level tokeniser that ends every text, into `folder`; return its name."""
    from transformers import T5Config, T5ForConditionalGeneration

    words = _bytes(ends=True)
    config = T5Config(
        vocab_size=len(words),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=2,
        num_heads=4,
        # T5 begins every output with the padding token.
        decoder_start_token_id=words.pad_token_id,
        pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id,
    )
    _write(T5ForConditionalGeneration, config, folder)
    words.save_pretrained(folder)
    return str(folder)


def tiny_vision(folder: Path, *, width: int = 32, size: int = 16) -> str:
    """Write a tiny ViT with random weights, and its image processor, into `folder`; return its name for a recipe.

    Args:
        folder: Where it goes.
        width: Width of the model.
        size: Pixels of a side of the images that it sees, in patches of 4.
    """
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    config = ViTConfig(
        image_size=size,
        patch_size=4,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
    )
    _write(ViTModel, config, folder, add_pooling_layer=False)
    ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)
    return str(folder)


def tiny_audio(folder: Path, *, width: int = 32, writes: bool = True, masks: bool = True) -> str:
    """Write a tiny wav2vec 2.0 with random weights, and its processor, into `folder`; return its name for a recipe.

    Args:
        folder: Where it goes.
        width: Width of the model.
        writes: Whether it has a tokeniser of small letters. Otherwise it can only tell classes.
        masks: Whether it is told which part of a row is padding, as the large models are. Otherwise
            it normalises over whole rows, as the base model does.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2Model, Wav2Vec2Processor

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz'"]
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=2 * width,
        conv_dim=(width, width, width),
        conv_kernel=(10, 8, 4),
        conv_stride=(10, 8, 4),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer" if masks else "group",
        do_stable_layer_norm=masks,
        conv_bias=masks,
        classifier_proj_size=width,
        pad_token_id=0,
        # By default a training step leaves out each layer
        # with a chance of 10 %, which may leave none of two.
        layerdrop=0.0,
    )
    _write(Wav2Vec2Model, config, folder)
    hears = Wav2Vec2FeatureExtractor(sampling_rate=16000, do_normalize=True, return_attention_mask=masks)
    if not writes:
        hears.save_pretrained(folder)
        return str(folder)
    # This tokeniser reads its letters from a file alone.
    vocabulary = Path(folder, "vocab.json")
    vocabulary.write_text(json.dumps({letter: i for i, letter in enumerate(letters)}), encoding="utf-8")
    Wav2Vec2Processor(feature_extractor=hears, tokenizer=Wav2Vec2CTCTokenizer(str(vocabulary))).save_pretrained(folder)
    return str(folder)


def _write(model: Callable[..., Any], config: Any, folder: Path, **more: Any) -> None:
    """Write a model of a configuration. Its random weights are the same each time, and the caller's
    random numbers are left as they are.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(config, **more).save_pretrained(folder)


def _bytes(*, chat: str | None = None, ends: bool = False) -> Any:
    """A tokeniser that reads any text: bytes, a few of them merged, and special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<begin>", "<end>", "<over>", "<user>", "<assistant>", "<system>"]
    merges = [("e", "s"), ("Ġ", "w"), ("i", "t"), ("y", "es")]  # how byte-level BPE writes a space: U+0120
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    words = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, merges))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    if ends:
        end = ("<end>", special.index("<end>"))
        words.post_processor = processors.TemplateProcessing(single="$A <end>", pair="$A <end> $B <end>", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<begin>",
        eos_token="<end>",
        additional_special_tokens=special[4:],
        # As many as the decoder has positions; tokenisers without a limit say 10^30.
        model_max_length=256,
        chat_template=chat,
    )
