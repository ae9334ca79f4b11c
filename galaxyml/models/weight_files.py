"""Files of weights: state dicts of many origins, under timm's names."""

import re
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from galaxyml.runs.errors import UserError, shorten

RGB = 3  # channels that published weights have seen
# Where checkpoints keep the weights, the best first: Lightning's and timm's, of a teacher and its student, others'.
WITHIN = ("state_dict", "teacher", "model", "student")
# What modules that contain the net put before its names. Whatever else they have beside it is left out.
PREFIXES = ("teacher.", "module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "dinov2.", "student.")
REGISTERS = ("register_tokens", "storage_tokens", "reg_token")  # in Facebook's files of DINOv2 and 3, and in timm's

# Names of DINOv2 in Hugging Face's transformers -> in Facebook's files, which timm reads.
OF_TRANSFORMERS = {
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection": "patch_embed.proj",
    r"embeddings\.(cls_token|mask_token|register_tokens)": r"\1",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense": r"blocks.\1.attn.proj",
    r"encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1": r"blocks.\1.ls\2.gamma",
    r"encoder\.layer\.(\d+)\.mlp\.weights_in": r"blocks.\1.mlp.w12",
    r"encoder\.layer\.(\d+)\.mlp\.weights_out": r"blocks.\1.mlp.w3",
    r"encoder\.layer\.(\d+)": r"blocks.\1",
    r"layernorm": "norm",
}
_CHUNKED = re.compile(r"blocks\.\d+\.(\d+)\.")  # blocks.CHUNK.BLOCK, as Facebook's training of large nets saves them
_QUERY = re.compile(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(weight|bias)")


def load_weights(net: Any, name: str, path: Path, in_chans: int, label: str) -> None:
    """Loads weights of a file into a net of timm; a last layer of another number of outputs is left out.

    Args:
        net: The net.
        name: Its name in timm.
        path: A state dict, or a checkpoint that has one, `.safetensors` or what torch saves.
        in_chans: Channels of the images; first convolutions of weights that have seen three are adapted to them.
        label: What the file is called in messages.

    Raises:
        UserError: If it is no such file, or its weights do not fit.
    """
    state = _named_as_in_timm(read_state(path, label), net.state_dict())
    _check_registers(state, net, name, label)
    wanted = net.state_dict()
    state = _with_stem(_converted(state, net, name), wanted, in_chans, label)
    layers = net.pretrained_cfg["classifier"]
    classifier = tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))
    state = {
        key: value
        for key, value in state.items()
        if not (key.startswith(classifier) and (key not in wanted or wanted[key].shape != value.shape))
    }
    missing = [key for key in wanted if key not in state and not key.startswith(classifier)]
    unknown = [key for key in state if key not in wanted]
    other = [key for key, value in state.items() if key in wanted and wanted[key].shape != value.shape]
    if missing or unknown or other:
        raise UserError(
            f"{label} does not fit {name}: {len(missing)} tensors are missing "
            f"({shorten(missing, shown=2)}), {len(unknown)} are unknown ({shorten(unknown, shown=2)}), {len(other)} "
            f"have another shape ({shorten(other, shown=2)}). Give weights of {name}."
        )
    net.load_state_dict(state, strict=False)


def read_state(path: Path, label: str) -> dict[str, Tensor]:
    """The state dict of a file; nothing else in it is looked at, and no code of it is run.

    Args:
        path: `.safetensors`, or what torch saves: a state dict, or a checkpoint that has one.
        label: What the file is called in messages.

    Raises:
        UserError: If it holds none.
    """
    return state_of(read_content(path, label), label)


def read_content(path: Path, label: str) -> Any:
    """All that a file of weights holds; arguments and errors as for `read_state`."""
    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything from KeyError to UnpicklingError
        code = re.search(r"Unsupported (?:global|class)\W+(?:GLOBAL )?([\w.]+)", str(error))
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        if code:
            why = f"it holds a {code[1]}, which is code. Save its weights alone"
        elif why.startswith("Weights only load failed"):  # whose advice is to let code of the file run
            why = "torch reads no weights in it"
        raise UserError(f"{label} is no state dict of weights: {why}") from error


def state_of(content: Any, label: str) -> dict[str, Tensor]:
    """The state dict in what a file holds; errors as for `read_state`."""
    while isinstance(content, dict) and not all(isinstance(value, Tensor) for value in content.values()):
        content = next((content[key] for key in WITHIN if isinstance(content.get(key), dict)), None)
    if not isinstance(content, dict):
        raise UserError(
            f"{label} is no state dict of weights: names and tensors, by themselves or below {', '.join(WITHIN)}. Save "
            "only these."
        )
    return content


def _named_as_in_timm(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a net without the names of modules around it; DINOv2's of transformers under Facebook's names."""
    while "embeddings.cls_token" not in state:
        inside = (prefix for prefix in PREFIXES if not any(key.startswith(prefix) for key in wanted))
        prefix = next((prefix for prefix in inside if any(key.startswith(prefix) for key in state)), None)
        if prefix is None:
            if any(map(_CHUNKED.match, wanted)):
                return state
            return {_CHUNKED.sub(r"blocks.\1.", key): value for key, value in state.items()}
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return _of_transformers(state)


def _of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {"mask_token": state["embeddings.cls_token"]}  # timm knows Facebook's names by it, and drops it
    for key, value in state.items():
        if match := _QUERY.fullmatch(key):
            parts = [state.get(key.replace("query", part), value[:0]) for part in ("query", "key", "value")]
            renamed[f"blocks.{match[1]}.attn.qkv.{match[2]}"] = torch.cat(parts)
        elif ".attention.attention." not in key and not key.startswith("classifier."):
            pattern = next((pattern for pattern in OF_TRANSFORMERS if re.match(pattern, key)), "$")
            renamed[re.sub(f"^{pattern}", OF_TRANSFORMERS.get(pattern, ""), key)] = value
    return renamed


def _check_registers(state: dict[str, Tensor], net: Any, name: str, label: str) -> None:
    """Refuses weights with registers for a net without, and the other way round."""
    registers = next((state[key].shape[-2] for key in REGISTERS if key in state and state[key].ndim > 1), 0)
    takes = getattr(net, "num_reg_tokens", 0)
    if registers == takes or "cls_token" not in state:
        return
    plain = re.sub(r"_reg\d+", "", name)
    other = re.sub(r"(_patch\d+)", rf"\1_reg{registers}", plain) if registers else plain
    hint = f" Give model.name={other}." if timm.is_model(other) else ""
    raise UserError(f"{label} has {registers or 'no'} register tokens, and {name} has {takes or 'none'}.{hint}")


def _converted(state: dict[str, Tensor], net: nn.Module, name: str) -> dict[str, Tensor]:
    """Weights under timm's names, with position embeddings for the size of the net's images."""
    module = sys.modules[timm.models.model_entrypoint(name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return convert(dict(state), net)
    except Exception:  # it stumbles over weights of another net, of which is then told what does not fit
        return state


def _with_stem(state: dict[str, Tensor], wanted: dict[str, Tensor], in_chans: int, label: str) -> dict[str, Tensor]:
    """Weights of which those that see three channels are adapted to the net's, as timm does with its own."""
    adapted = dict(state)
    for name, weight in state.items():
        own = wanted.get(name)
        if own is None or own.ndim != 4 or own.shape == weight.shape or own.shape[1] != in_chans:
            continue
        if weight.shape == (own.shape[0], RGB, *own.shape[2:]):
            adapted[name] = adapt_input_conv(in_chans, weight)
        elif weight.ndim == 4 and (weight.shape[0], *weight.shape[2:]) == (own.shape[0], *own.shape[2:]):
            raise other_channels(label, weight.shape[1], in_chans)
    return adapted


def other_channels(label: str, seen: int, in_chans: int) -> UserError:
    """The error of weights that have seen another number of channels, which is not three."""
    return UserError(f"{label} learnt from images of {seen} channels, and these have {in_chans}: set channels={seen}.")
