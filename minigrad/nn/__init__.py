"""Layers, losses and initialisers, with PyTorch's names; the public face of modules and cells."""

from ..cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell
from ..module import Module, Parameter
from . import init, utils
from .layers import Dropout, Embedding, Linear
from .losses import cross_entropy, mse_loss, sequence_cross_entropy
from .recurrent import GRU, LSTM, RNN, Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "Dropout",
    "Embedding",
    "GRUCell",
    "LSTMCell",
    "LSTMState",
    "Linear",
    "Module",
    "Parameter",
    "RNNCell",
    "Recurrent",
    "cross_entropy",
    "init",
    "mse_loss",
    "sequence_cross_entropy",
    "utils",
]
