"""How reports become one update: lift, sum, finish."""

from fedjax_compress.aggregate.mean import Mean, mean

__all__ = ["Mean", "mean"]
