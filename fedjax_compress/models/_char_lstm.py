"""Models of text."""

from __future__ import annotations

from flax import linen

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models import cutting
from fedjax_compress.models.inputs import check_positive, check_tokens
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.lstm import LSTM, LayerNormLSTM
from fedjax_compress.typing import Array, Model, Task, Tie


class _CharLSTM(linen.Module):
    symbols: int
    embedding: int
    hidden: tuple[int, ...]
    layer_norm: bool

    @linen.compact
    def __call__(self, x: Array) -> Array:
        x = linen.Embed(self.symbols, self.embedding, name="embedding")(x)
        layer = LayerNormLSTM if self.layer_norm else LSTM
        for i, units in enumerate(self.hidden):
            x = layer(units, name=f"lstm_{i + 1}")(x)
        return linen.Dense(self.symbols, name="output")(x)


@registry.register("model", context=1)
def char_lstm(
    task: Task,
    embedding: int = 8,
    hidden: int = 256,
    layers: int = 2,
    pad: int = 0,
    layer_norm: bool = False,
) -> Model:
    """Next-character model: an embedding, LSTM layers, a dense layer at each position.

    Features and labels are [batch, time]: the label of a position is the symbol that
    follows. Loss and accuracy are means over all labels that are not ``pad``, so that a
    row counts for as much as it has of them. 820,522 parameters
    with 90 symbols: ``embedding/embedding`` (normal of variance 1 / embedding),
    ``lstm_1``, ``lstm_2``, ... (see ``LSTM``), ``output`` (kernel: truncated normal
    of variance 1 / hidden; bias: zeros).

    With ``layer_norm`` it has no ``cuts``: a normalisation mixes the units of a layer,
    so the network cut to some units is not the whole one with the others zeroed.

    Args:
      task: tokens of shape (time,); ``classes`` is the number of symbols.
      embedding: width of the embedding.
      hidden: width of each LSTM layer.
      layers: number of LSTM layers.
      pad: the symbol that is not scored; -1 scores all.
      layer_norm: whether layers normalise their gates and cells, see
        ``LayerNormLSTM``.

    Raises:
      InputError: a task without tokens, a size below 1, or a pad that is no symbol.

    Reference: Reddi et al., "Adaptive Federated Optimization" (2021), Shakespeare;
      the parameter count agrees.
    """
    check_tokens(task)
    check_positive("embedding", embedding)
    check_positive("hidden", hidden)
    check_positive("layers", layers)
    if not -1 <= pad < task.classes:
        raise InputError(f"pad must be in -1 .. {task.classes - 1}, not {pad}")
    widths = (hidden,) * layers
    if layer_norm:
        module = _CharLSTM(task.classes, embedding, widths, layer_norm)
        return from_linen(module, task, pad=pad, conv="direct")
    return _char_lstm(task, embedding, widths, pad)


def _char_lstm(task: Task, embedding: int, hidden: tuple[int, ...], pad: int) -> Model:
    names = [f"lstm_{i + 1}" for i in range(len(hidden))]
    groups = {"embedding": embedding} | dict(zip(names, hidden, strict=True))
    ties: dict[str, tuple[Tie | None, ...]] = {
        "embedding/embedding": (None, Tie("embedding"))
    }
    reads = Tie("embedding")
    for name in names:
        gates = Tie(name, outer=4)
        ties[f"{name}/kernel"] = (reads, gates)
        ties[f"{name}/recurrent"] = (Tie(name), gates)
        ties[f"{name}/bias"] = (gates,)
        reads = Tie(name)

    def narrow(counts: dict[str, int]) -> Model:
        fewer = tuple(counts[name] for name in names)
        return _char_lstm(task, counts["embedding"], fewer, pad)

    return from_linen(
        _CharLSTM(task.classes, embedding, hidden, layer_norm=False),
        task,
        pad=pad,
        conv="direct",
        cuts=cutting.layers(groups, {"output": (reads, None)}, narrow, more=ties),
    )
