"""How reports become one update: lift, sum, finish."""

from fedjax_compress.aggregate.mean import Mean, mean
from fedjax_compress.aggregate.vote import majority

__all__ = ["Mean", "majority", "mean"]
