"""SpecAugment: bands of frequencies and stretches of time are masked."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_compress import registry
from fedjax_compress.errors import InputError
from fedjax_compress.models.augment import OnColumns
from fedjax_compress.models.inputs import lengths_of, numbers
from fedjax_compress.typing import Array, Columns, Key, Task

_ROUNDING = 1e-3
"""Frames: what float32 may add to a whole number of them."""


@registry.register("augment", context=1)
def spec_augment(
    task: Task,
    frequency_masks: int = 2,
    frequency_width: int = 13,
    time_masks: int = 10,
    time_share: float = 0.05,
) -> OnColumns:
    """Masks bands of bins and stretches of frames of each row, in training only.

    Each of ``frequency_masks`` covers f bins from f0 on, f uniform in 0 ..
    frequency_width - 1, f0 uniform in 0 .. bins - f; each of ``time_masks`` t frames
    from t0 on, t uniform in 0 .. ceil(time_share length) - 1, t0 uniform in 0 ..
    length - t, where length is that of the row without its padding. What is covered
    becomes 0, the mean of normalised features.

    Args:
      task: features (frames, bins); ``lengths`` if rows are padded.
      frequency_masks: bands.
      frequency_width: bins that a band is narrower than, at most the bins there are.
      time_masks: stretches.
      time_share: of the row that a stretch is shorter than, from 0 to 1.

    Raises:
      InputError: features without frames and bins, a number out of its range.

    Reference: Park et al. 2019, section 2, with the numbers used for the Conformer
      (Gulati et al. 2020), for which 13 of 40 bins stand where 27 of 80 did.

    Deviations: no time warping, which the authors found to matter least.
    """
    if task.tokens or len(task.shape) < 2:
        raise InputError(
            f"spec_augment masks features (frames, bins), not shape {task.shape}"
        )
    bins = task.shape[1]
    if min(frequency_masks, time_masks) < 0:
        raise InputError(
            "frequency_masks and time_masks must not be negative, got "
            f"{frequency_masks} and {time_masks}"
        )
    if not 0 <= time_share <= 1:
        raise InputError(f"time_share must be from 0 to 1, not {time_share}")
    if frequency_masks and not 1 <= frequency_width <= bins:
        raise InputError(
            f"frequency_width must be from 1 to the {bins} bins there are, not "
            f"{frequency_width}"
        )

    def change(columns: Columns, key: Key | None) -> Array:
        x = numbers(columns["features"], task)
        if key is None:
            return x
        batch, frames = x.shape[:2]
        lengths = lengths_of(columns, frames)
        hidden = covered(
            jax.random.fold_in(key, 0), jnp.full((batch,), bins, jnp.int32),
            jnp.full((batch,), frequency_width, jnp.int32), bins, frequency_masks,
        )[:, None]  # fmt: skip
        share = time_share * lengths.astype(jnp.float32)
        share = jnp.ceil(share - _ROUNDING).astype(jnp.int32)
        stretches = covered(
            jax.random.fold_in(key, 1), lengths, share, frames, time_masks
        )
        hidden = hidden | stretches[:, :, None]
        hidden = hidden.reshape(*hidden.shape, *(1,) * (x.ndim - 3))
        return jnp.where(hidden, 0.0, x)

    return OnColumns(change)


def covered(key: Key, lengths: Array, widths: Array, places: int, masks: int) -> Array:
    """Places that some mask covers, bool [batch, places].

    Args:
      key: draws widths and starts.
      lengths: int32 [batch], places within which masks lie.
      widths: int32 [batch], that a mask is narrower than; 0 and 1 cover nothing.
      places: length of the axis.
      masks: how many.
    """
    shape = (len(lengths), masks)
    one, other = jax.random.split(key)
    wide = _below(one, shape, widths[:, None])
    first = _below(other, shape, lengths[:, None] - wide + 1)
    place = jnp.arange(places, dtype=jnp.int32)[None, None]
    within = (place >= first[..., None]) & (place < (first + wide)[..., None])
    return jnp.any(within, axis=1)


def _below(key: Key, shape: tuple[int, ...], bound: Array) -> Array:
    """Uniform whole numbers from 0 to below ``bound``, 0 where that is below 1."""
    wide = jnp.broadcast_to(jnp.maximum(bound, 1), shape)
    return jax.random.randint(key, shape, 0, wide)
