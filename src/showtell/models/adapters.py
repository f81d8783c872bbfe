"""Few weights that turn a frozen LLM to a task, by peft: LoRA and prefix tuning.

    add_lora(language, LoraConfig())       # low-rank updates of q and v, in the LLM's own layers
    add_prefix(language, PrefixConfig())   # five virtual tokens before everything, in every layer
    stage = replace(stage, learning_rates={**stage.learning_rates, **adapter_rates(language)})

Both are a part of the LLM from then on, in training, answering, saving and loading. A prefix is
keys and values that were never read from tokens: what an answer's cache starts from, and what every
row of a batch sees first.

Source: 2310.02239, section 2.1 (PEFT); the numbers are its release's. LoRA is arXiv 2106.09685,
prefix tuning arXiv 2101.00190, whose MLP re-parametrisation is kept in a saved model, so that it
can be trained on.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from showtell.errors import ConfigError, import_extra
from showtell.models.folders import reading, save_rows, write_json

if TYPE_CHECKING:
    from transformers import DynamicCache

    from showtell.models.language import LanguageModel

FOLDER, CONFIG, WEIGHTS = "adapter", "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # peft's own name for the model that an adapter sits in


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """W + (alpha / rank) B A for some projections of every layer; B starts at zero.

    rank: of B A
    alpha: see the formula
    dropout: of what A reads
    targets: the names of the projections
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True, kw_only=True)
class PrefixConfig:
    """Virtual tokens, whose keys and values an MLP gives.

    num_tokens: how many
    hidden: units of the MLP
    """

    num_tokens: int = 5
    hidden: int = 1024


class Prefix(nn.Module):
    """The keys and values of virtual tokens, for every layer of one LLM."""

    def __init__(self, language: LanguageModel, settings: Any) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # peft asks transformers by a name that transformers is about to drop
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            wrapped = require_peft().get_peft_model(language.model, settings)
        self.encoder = wrapped.prompt_encoder["default"]
        self.num_tokens = int(settings.num_virtual_tokens)
        # peft's model holds the whole LLM, which is not a part of the prefix
        self._wrapped = (wrapped,)

    def cache(self, batch_size: int) -> DynamicCache:
        """A cache that holds the prefix and nothing else, with gradients into the prefix."""
        return self._wrapped[0].get_prompt(batch_size)

    def extend(
        self, mask: Tensor | None, positions_BT: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Mask and positions of a batch with the prefix before it: all see it, all stand after.

        A mask (B, T) or (B, 1, T, T) gains columns for the keys that are there already.
        """
        if mask is not None:
            seen = mask.new_ones((*mask.shape[:-1], self.num_tokens))
            mask = torch.cat([seen, mask], dim=-1)
        return mask, None if positions_BT is None else positions_BT + self.num_tokens


def add_lora(language: LanguageModel, config: LoraConfig) -> None:
    """Put low-rank updates into the LLM, in place. Raises ConfigError for targets it lacks."""
    _refuse_second(language)
    settings = require_peft().LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=sorted(config.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    _inject(language, settings)


def add_prefix(language: LanguageModel, config: PrefixConfig) -> None:
    """Put virtual tokens before everything that the LLM reads, in place."""
    _refuse_second(language)
    if getattr(language.model.config, "cross_attention_layers", None):
        raise ConfigError(
            "this language model has cross-attention layers, whose places in the cache a prefix "
            "would take for photos; use LoRA, or a photo encoder whose tokens are read"
        )
    settings = require_peft().PrefixTuningConfig(
        num_virtual_tokens=config.num_tokens,
        prefix_projection=True,
        encoder_hidden_size=config.hidden,
        task_type="CAUSAL_LM",
    )
    try:
        language.prefix = Prefix(language, settings)
        language.hidden(language.embed(language.column([[0]])), None)
    except (ValueError, RuntimeError) as error:
        language.prefix = None
        raise ConfigError(
            f"a {type(language.model).__name__} takes no prefix of peft's ({error}); use LoRA, or "
            "another language model"
        ) from error


def has_lora(language: LanguageModel) -> bool:
    return any("lora_A" in name for name, _ in language.model.named_parameters())


def adapter_rates(language: LanguageModel, *, module: str = "language.") -> dict[str, float]:
    """``Stage.learning_rates`` under which the LLM stands still and its adapter moves.

    ``module``: the LLM's name in what the stage trains. New tokens move too; name
    ``language.new_tokens`` to change that.
    """
    rates = {f"{module}model": 0.0}
    for name, _ in language.named_parameters():
        if "lora_" in name or name.startswith("prefix."):
            rates[module + name] = 1.0
    return rates


# ------------------------------------------------------------------------------------- on disk


def base_state(language: LanguageModel) -> dict[str, Tensor] | None:
    """The LLM's own weights under their own names; None where nothing sits in it."""
    if not has_lora(language):
        return None
    return {
        name.replace(".base_layer.", "."): value
        for name, value in language.model.state_dict().items()
        if ".lora_" not in name
    }


def save_adapter(language: LanguageModel, folder: Path) -> None:
    """Write ``folder``/adapter, if there is one: peft's config and safetensors.

    A LoRA folder is what peft reads. A prefix is saved with its MLP, which peft would leave out.
    """
    if language.prefix is not None:
        settings = language.prefix._wrapped[0].peft_config["default"]
        weights = dict(language.prefix.encoder.state_dict())
    elif has_lora(language):
        settings = language.model.peft_config["default"]  # type: ignore[attr-defined]
        state = require_peft().get_peft_model_state_dict(language.model, adapter_name="default")
        weights = {_PREFIX + name: value for name, value in state.items()}
    else:
        return
    folder = folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    settings.base_model_name_or_path = None  # a path of this machine, and the LLM lies beside it
    settings.save_pretrained(folder)
    told = json.loads((folder / CONFIG).read_text())
    if targets := told.get("target_modules"):  # a set to peft, in another order in each process
        write_json(folder / CONFIG, told | {"target_modules": sorted(targets)})
    save_rows(weights, folder / WEIGHTS)


def load_adapter(language: LanguageModel, folder: Path) -> None:
    """Put the adapter of ``folder``/adapter into the LLM, if there is one.

    Raises CheckpointError for a broken one, or one of another LLM.
    """
    folder = folder / FOLDER
    if not folder.is_dir():
        return
    peft = require_peft()
    wanted = f"{CONFIG} and {WEIGHTS} as save_pretrained writes them"
    with reading("the adapter", folder, wanted=wanted):
        # peft looks for missing files elsewhere; ours are here or nowhere
        kind = json.loads((folder / CONFIG).read_text())["peft_type"]
        weights = load_file(folder / WEIGHTS)
        settings = peft.PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = False
        if kind == "PREFIX_TUNING":
            # these are this LLM's, as peft finds them, so that a prefix of another does not fit
            for key in ("num_layers", "num_attention_heads", "token_dim"):
                setattr(settings, key, None)
            language.prefix = Prefix(language, settings)
            language.prefix.encoder.load_state_dict(weights)
            return
        _inject(language, settings)
        weights = {name.removeprefix(_PREFIX): value for name, value in weights.items()}
        result = peft.set_peft_model_state_dict(language.model, weights, adapter_name="default")
        lacking = [name for name in result.missing_keys if "lora_" in name]
        if lacking or result.unexpected_keys:
            raise ValueError(f"it is of another model: {[*lacking, *result.unexpected_keys][:3]}")


def _inject(language: LanguageModel, settings: Any) -> None:
    try:
        require_peft().inject_adapter_in_model(settings, language.model)
    except ValueError as error:
        names = sorted(
            {
                name.rpartition(".")[2]
                for name, module in language.model.named_modules()
                if isinstance(module, nn.Linear)
            }
        )
        raise ConfigError(
            f"this language model has no {settings.target_modules} to put LoRA into ({error}); its "
            f"projections are {', '.join(names)}; name some of these as targets"
        ) from error
    for name, parameter in language.model.named_parameters():
        if "lora_" in name:  # what is trained is float32, whatever the LLM is
            parameter.data = parameter.data.float()


def _refuse_second(language: LanguageModel) -> None:
    if language.prefix is not None or has_lora(language):
        raise ConfigError(
            "this language model has an adapter already; wanted one without; start from the base "
            "model"
        )


def require_peft() -> Any:
    """The library. Raises MissingDependency where it is not installed."""
    return import_extra("peft", what="LoRA or prefix tuning", extra="adapters")
