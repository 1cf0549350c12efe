"""Models of pure functions over nested dicts of parameters."""

from __future__ import annotations

from fedjax_compress.models import losses, metrics
from fedjax_compress.models._char_lstm import char_lstm
from fedjax_compress.models._cnn import cnn, emnist_cnn
from fedjax_compress.models._conformer_ctc import conformer_ctc
from fedjax_compress.models._conformer_transducer import conformer_transducer
from fedjax_compress.models._cost import Cost, cost, forward_macs
from fedjax_compress.models._lenet import lenet
from fedjax_compress.models._partial import lora, partial, partly, with_additions
from fedjax_compress.models._spec_augment import spec_augment
from fedjax_compress.models._text_classifier import text_classifier
from fedjax_compress.models._transformer_lm import transformer_lm
from fedjax_compress.models._vgg11 import vgg11
from fedjax_compress.models.augment import (
    Augment,
    OnColumns,
    augmented,
    crop_flip,
    normalise,
)
from fedjax_compress.models.convolution.forms import Form, convolution_form
from fedjax_compress.models.convolution.layer import Convolution, max_pool
from fedjax_compress.models.convolution.rewrite import rewrite_convolutions
from fedjax_compress.models.dense import logistic, mlp
from fedjax_compress.models.linen_model import from_linen
from fedjax_compress.models.lstm import LSTM, LayerNormLSTM
from fedjax_compress.models.nnx_model import from_nnx
from fedjax_compress.models.resnet import resnet12, resnet18
from fedjax_compress.models.speech.decoding import (
    beam_transducer,
    greedy_ctc,
    greedy_transducer,
)
from fedjax_compress.models.speech.transducer_loss import (
    rnnt_loss,
    scored_nodes,
    transducer_loss,
)
from fedjax_compress.models.speech.word_errors import (
    cer,
    edit_distance,
    transcribe,
    wer,
    words_of,
)
from fedjax_compress.models.thin_resnets import (
    resnet8,
    resnet20,
    resnet55,
    resnet56,
    resnet109,
    resnet110,
)

__all__ = [
    "LSTM",
    "Augment",
    "Convolution",
    "Cost",
    "Form",
    "LayerNormLSTM",
    "OnColumns",
    "augmented",
    "beam_transducer",
    "cer",
    "char_lstm",
    "cnn",
    "conformer_ctc",
    "conformer_transducer",
    "convolution_form",
    "cost",
    "crop_flip",
    "edit_distance",
    "emnist_cnn",
    "forward_macs",
    "from_linen",
    "from_nnx",
    "greedy_ctc",
    "greedy_transducer",
    "lenet",
    "logistic",
    "lora",
    "losses",
    "max_pool",
    "metrics",
    "mlp",
    "normalise",
    "partial",
    "partly",
    "resnet8",
    "resnet12",
    "resnet18",
    "resnet20",
    "resnet55",
    "resnet56",
    "resnet109",
    "resnet110",
    "rewrite_convolutions",
    "rnnt_loss",
    "scored_nodes",
    "spec_augment",
    "text_classifier",
    "transcribe",
    "transducer_loss",
    "transformer_lm",
    "vgg11",
    "wer",
    "with_additions",
    "words_of",
]
