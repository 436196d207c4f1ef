"""Samples of the activation functions."""

import math

import numpy as np

from .base import Sample, apart, binary, normal, unary
from .elementwise import real_erf


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def with_parameter(name, values, reference, draw):
    return [
        Sample((draw(*s),), {name: value}, reference=reference)
        for value in values
        for s in [(3, 4), (), (0, 3)]
    ]


SAMPLES = {
    "sigmoid": unary(normal, sigmoid),
    "softplus": unary(normal, lambda x: np.log(1 + np.exp(x))),
    "difference": binary(normal, np.subtract),
    "logaddexp": [
        *binary(normal, np.logaddexp),
        Sample((normal(2, 3), 0.5), {}, (0,), np.logaddexp),
        Sample((np.ones(3), np.ones(3)), {}, (0, 1), np.logaddexp),
    ],
    "relu": unary(apart, lambda x: np.where(x > 0, x, 0)),
    "leaky_relu": with_parameter(
        "negative_slope",
        (0.5, 0.01),
        lambda x, negative_slope: np.where(x > 0, x, negative_slope * x),
        apart,
    ),
    "elu": with_parameter(
        "alpha",
        (1.0, 0.5),
        lambda x, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
        apart,
    ),
    "silu": unary(normal, lambda x: x * sigmoid(x)),
    "gelu": unary(normal, lambda x: x * (1 + real_erf(x / math.sqrt(2))) / 2),
    "gelu_tanh": unary(normal, gelu_tanh),
}
