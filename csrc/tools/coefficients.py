"""Derive the constants of kernels/activation.inc.h and print them.

    python csrc/tools/coefficients.py

Each polynomial interpolates its function at Chebyshev nodes, which comes within a small factor of
the best polynomial of that degree, and is then rounded to the working dtype. The last figure of a
row is the largest relative error of what the polynomial is used for, before any rounding in the
evaluation; half a unit in the last place is 6e-8 in float32 and 1.1e-16 in float64.
"""

import functools
import math
import struct
from collections.abc import Callable
from decimal import Decimal, getcontext

getcontext().prec = 60
Function = Callable[[Decimal], Decimal]
LN2 = Decimal(2).ln()
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")


def chebyshev_fit(f: Function, low: Decimal, high: Decimal, terms: int) -> list[Decimal]:
    """Return the coefficients, constant first, of the interpolant of f at the Chebyshev nodes."""
    nodes = [
        (low + high) / 2 + (high - low) / 2 * Decimal(math.cos(math.pi * (i + 0.5) / terms))
        for i in range(terms)
    ]
    newton = [f(x) for x in nodes]
    for level in range(1, terms):
        for i in range(terms - 1, level - 1, -1):
            newton[i] = (newton[i] - newton[i - 1]) / (nodes[i] - nodes[i - level])
    poly = [Decimal(0)] * terms
    for x, c in zip(reversed(nodes), reversed(newton), strict=True):  # poly = poly * (t - x) + c
        poly = [c - x * poly[0]] + [poly[i - 1] - x * poly[i] for i in range(1, terms)]
    return poly


def horner(coefficients: list[Decimal], x: Decimal) -> Decimal:
    """Return the value of a polynomial, constant first."""
    total = Decimal(0)
    for c in reversed(coefficients):
        total = total * x + c
    return total


def rounded(x: Decimal, dtype: str) -> float:
    """Return x rounded to "f" (float32) or "d" (float64)."""
    return struct.unpack(dtype, struct.pack(dtype, float(x)))[0]


def expm1_q(r: Decimal) -> Decimal:
    """q in e^r - 1 = r + r^2 q(r)."""
    return (r.exp() - 1 - r) / (r * r) if abs(r) > Decimal("1e-12") else Decimal("0.5") + r / 6


def log1p_q(z: Decimal) -> Decimal:
    """q in log(1 + f) = f - s (f - z q(z)) with s = f / (2 + f), z = s^2."""
    if z < Decimal("1e-20"):
        return Decimal(2) / 3 + 2 * z / 5
    s = z.sqrt()
    return (((1 + s) / (1 - s)).ln() - 2 * s) / (s * z)


@functools.cache
def erf(x: Decimal) -> Decimal:
    """The error function: 2/sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / (3 5) + ...)."""
    term = total = x
    n = 1
    while term > Decimal("1e-60"):
        term *= 2 * x * x / (2 * n + 1)
        total += term
        n += 1
    return 2 / PI.sqrt() * (-x * x).exp() * total


def erf_q(z: Decimal) -> Decimal:
    """q in erf(x) = x + x q(x^2)."""
    if z < Decimal("1e-20"):
        return 2 / PI.sqrt() * (1 - z / 3) - 1
    return erf(z.sqrt()) / z.sqrt() - 1


ERF_CENTRE = Decimal("2.5")


def erf_h(t: Decimal) -> Decimal:
    """h in erf(x) = 1 - e^-(x^2 + h(t)), t = x - 2.5: nearly a straight line."""
    x = t + ERF_CENTRE
    return -(1 - erf(x)).ln() - x * x


def report(
    name: str,
    f: Function,
    low: Decimal,
    high: Decimal,
    terms: int,
    dtype: str,
    weight: Function,
    used_to: Decimal | None = None,
) -> None:
    """Print one C array, highest power first, and the largest weight * |error| on a fine grid.

    A polynomial fitted up to `high` may be used beyond, where the weight is small: up to `used_to`.
    """
    poly = [Decimal(rounded(c, dtype)) for c in chebyshev_fit(f, low, high, terms)]
    used_to = high if used_to is None else used_to
    grid = [low + (used_to - low) * i / 999 for i in range(1000)]
    error = max(abs(weight(x) * (f(x) - horner(poly, x))) for x in grid)
    print(f"{dtype} {name}, error {error:.1e}")
    print("    " + ", ".join(float(c).hex() for c in reversed(poly)))


def main() -> None:
    """Print every constant for both dtypes."""
    edge = LN2 / 2 * Decimal("1.0001")  # rounding x/ln2 may land a hair outside half an interval
    top = Decimal("0.2") ** 2  # f from -1/4 to 1/2, hence s from -1/7 to 1/5
    for dtype, q_terms, log_terms in (("f", 6, 4), ("d", 11, 8)):
        high = Decimal(rounded(LN2, dtype))
        print(
            f"{dtype} log2(e) {rounded(1 / LN2, dtype).hex()}  "
            f"ln 2 {float(high).hex()} + {rounded(LN2 - high, dtype).hex()}"
        )
        report(
            "expm1",
            expm1_q,
            -edge,
            edge,
            q_terms,
            dtype,
            lambda r: r * r / (r.exp() - 1) if r else Decimal(0),
        )
        report(
            "log1p",
            log1p_q,
            Decimal(0),
            top,
            log_terms,
            dtype,
            lambda z: z.sqrt() * z / ((1 + z.sqrt()) / (1 - z.sqrt())).ln() if z else Decimal(0),
        )
        report(
            "erf near 0",
            erf_q,
            Decimal(0),
            Decimal(1),
            7 if dtype == "f" else 13,
            dtype,
            lambda z: 1 / (1 + erf_q(z)),
        )
        fitted, saturated = ("3", "4") if dtype == "f" else ("3.5", "6")
        report(
            "erf beyond 1",
            erf_h,
            1 - ERF_CENTRE,
            Decimal(fitted) - ERF_CENTRE,
            9 if dtype == "f" else 20,
            dtype,
            lambda t: (1 - erf(t + ERF_CENTRE)) / erf(t + ERF_CENTRE),
            Decimal(saturated) - ERF_CENTRE,
        )


if __name__ == "__main__":
    main()
