"""Federated averaging with compression in both directions."""

from __future__ import annotations

from typing import Literal

from fedjax_compress import registry, tree
from fedjax_compress.algorithms.shared.averaging import Sent as Message
from fedjax_compress.algorithms.shared.averaging import averaging
from fedjax_compress.algorithms.shared.setups import of_checked_parts
from fedjax_compress.errors import InputError
from fedjax_compress.typing import Algorithm, Compressor, LocalUpdate, Setup

Sent = Literal["update", "weights", "quantized"]
Weights = Literal["weights", "quantized"]


WHOLE_WEIGHTS = (
    "an uplink of weights cannot keep a state between rounds, in which whole weights "
    "would add up"
)


@registry.register("algorithm", context=1)
@of_checked_parts
def fedavg(
    setup: Setup,
    send: Sent = "update",
    receive: Weights = "weights",
) -> Algorithm:
    """FedAvg and its relatives: compressed model down, compressed update up.

    The server sends encode(w); each client trains from v = decode(encode(w)) and
    sends encode(v' - v); the server applies its optimizer to the mean of the decoded
    updates. Its own w stays in full precision.

    With ``send=weights`` clients send encode(v'), and the server applies its optimizer
    to mean(decode(encode(v'))) - w: ``fedavg(lr=1)`` makes w the mean of what arrives.
    With ``send=quantized`` what travels are the weights that the model computes with,
    where clients train quantized ones: codes and scales.

    Travels: down, the downlink's fields for the parameters, once to each client of
    the cohort; up, the uplink's fields for the update or the weights; where they are
    quantized, those of the model's quantizer. The number of examples used as weight is
    registered with the client, and not counted.

    Args:
      setup: what is joined. A vote on signs as aggregator is one of updates, and means
        nothing of weights; the downlink's state is kept by the server.
      send: update, weights (the latent ones where clients quantize), or quantized.
      receive: weights, or quantized.

    Raises:
      InputError: quantized without a model that quantizes, or besides a lossy link; and
        before the first round, weights sent through a link that keeps a state.

    Reference: McMahan et al. 2017, algorithm 1; Reddi et al. 2021, algorithm 1;
    compressed download as in Caldas et al. 2018, section 2.
    """
    up = link_for(setup.local, setup.uplink, send, "send", "uplink")
    down = link_for(setup.local, setup.downlink, receive, "receive", "downlink")
    setup = setup._replace(uplink=up, downlink=down)
    if send == "update":
        return averaging(setup)
    weights = Message(
        make=lambda update, received: tree.add(received, update),
        stateless=WHOLE_WEIGHTS,
    )
    return averaging(setup, weights, of_weights=True)


def link_for(
    local: LocalUpdate, link: Compressor, what: str, option: str, name: str
) -> Compressor:
    """The compressor of what travels.

    Args:
      local: of the model whose quantizer may be asked for.
      link: the link that was given.
      what: update, weights or quantized.
      option: name of the option that says so, for messages.
      name: name of the link, for messages.

    Raises:
      InputError: quantized without a model that quantizes, or besides a lossy link.
    """
    if what != "quantized":
        return link
    if local.model is None or local.model.quantized is None:
        raise InputError(
            f"{option}=quantized needs clients that train with quantized weights; give "
            "qat, as in integer(bits=4)"
        )
    if not link.claims.lossless:
        raise InputError(
            f"{option}=quantized makes the message itself; give {name}=identity"
        )
    return local.model.quantized.compressor
