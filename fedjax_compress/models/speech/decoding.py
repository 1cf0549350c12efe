"""What a network of sequences says: the best way through its frames, the best words.

A transducer is given as two functions over a ``state`` of what has been said, any
pytree with a leading axis of rows: ``step`` scores what comes next, ``advance`` takes a
symbol in. Symbols come out as int32 rows with zeros behind them, and their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_compress.errors import InputError
from fedjax_compress.typing import Array

State = Any
"""What has been said, leaves [rows, ...]."""
Step = Callable[[State, Array], Array]
"""(state, encoded frame [rows, width]) -> logits [rows, symbols]."""
Advance = Callable[[State, Array], State]
"""(state, symbol int32 [rows]) -> state; rows do not see each other."""

_NEVER = -1e30


def greedy_transducer(
    encoded: Array,
    lengths: Array,
    state: State,
    step: Step,
    advance: Advance,
    most_per_frame: int = 3,
    blank: int = 0,
) -> tuple[Array, Array]:
    """The likeliest symbol again and again: frame by frame, until it is the blank.

    Each row has a frame of its own, so that the loop ends after as many steps as the
    longest row has frames and symbols.

    Args:
      encoded: [batch, frames, width].
      lengths: integer [batch], frames of each row.
      state: of rows that have said nothing.
      step: scores what comes next.
      advance: takes a symbol in.
      most_per_frame: symbols after which the next frame is read, blank or not.
      blank: the symbol that stands for none.

    Returns:
      int32 [batch, frames * most_per_frame], and int32 [batch] how many they are.
    """
    _check(lengths, encoded, most_per_frame)
    batch, frames = encoded.shape[:2]
    lengths = jnp.minimum(lengths.astype(jnp.int32), frames)
    room = frames * most_per_frame

    def go(carry: tuple) -> tuple:
        place, here, number, symbols, state = carry
        index = jnp.minimum(place, frames - 1)[:, None, None]
        frame = jnp.take_along_axis(encoded, index, axis=1)[:, 0]
        choice = jnp.argmax(step(state, frame), axis=-1).astype(jnp.int32)
        runs = place < lengths
        says = runs & (choice != blank)
        at = jnp.where(says, number, room)  # which is nowhere
        symbols = symbols.at[jnp.arange(batch), at].set(choice, mode="drop")
        state = _chosen(says, advance(state, choice), state)
        here = here + says.astype(jnp.int32)
        moves = runs & (~says | (here >= most_per_frame))
        place = place + moves.astype(jnp.int32)
        here = jnp.where(moves, 0, here)
        return place, here, number + says.astype(jnp.int32), symbols, state

    zeros = jnp.zeros(batch, jnp.int32)
    start = (zeros, zeros, zeros, jnp.zeros((batch, room), jnp.int32), state)
    end = lax.while_loop(lambda carry: jnp.any(carry[0] < lengths), go, start)
    return end[3], end[2]


def greedy_ctc(logits: Array, lengths: Array, blank: int = 0) -> tuple[Array, Array]:
    """The likeliest symbol of each frame, repeats as one, blanks left out.

    Args:
      logits: [batch, frames, symbols].
      lengths: integer [batch], frames of each row.
      blank: the symbol that stands for none.

    Returns:
      int32 [batch, frames], and int32 [batch] how many they are.
    """
    _check(lengths, logits, 1)
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    before = jnp.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=blank)
    frame = jnp.arange(best.shape[1], dtype=jnp.int32)[None]
    real = frame < lengths.astype(jnp.int32)[:, None]
    return to_front(best, real & (best != before) & (best != blank))


def beam_transducer(
    encoded: Array,
    lengths: Array,
    state: State,
    step: Step,
    advance: Advance,
    width: int = 4,
    most_per_frame: int = 3,
    blank: int = 0,
) -> tuple[Array, Array, Array]:
    """The likeliest words of a beam, whose chance is that of all their ways together.

    In each frame the words kept are made longer by one symbol, up to
    ``most_per_frame`` times, the ``width`` likeliest each time; a blank closes each of
    these for the frame, equal words are made one, and the ``width`` likeliest go on.
    With a beam that nothing falls out of, the chance is P of ``transducer_loss``, less
    the ways with more symbols in a frame. There is no bonus for length.

    Deviations: A. Graves, 2012, algorithm 1, makes the likeliest open words longer
    until as many closed ones are likelier; the number of its steps depends on the data.

    Args:
      encoded: [batch, frames, inputs].
      lengths: integer [batch], frames of each row.
      state: of rows that have said nothing.
      step: scores what comes next; is given batch * width rows.
      advance: takes a symbol in; is given as many.
      width: words that are kept; each is compared with every other of a frame, in
        (width (most_per_frame + 1))^2 times as much memory as the symbols of a row.
      most_per_frame: symbols that a frame may add.
      blank: the symbol that stands for none.

    Returns:
      int32 [batch, frames * most_per_frame], int32 [batch] how many they are, and
      float32 [batch], the log-probability.
    """
    if width < 1:
        raise InputError(f"width must be at least 1, not {width}")
    _check(lengths, encoded, most_per_frame)
    batch, frames = encoded.shape[:2]
    lengths = lengths.astype(jnp.int32)
    room = frames * most_per_frame

    def spread(x: Array) -> Array:
        wide = jnp.broadcast_to(x[:, None], (batch, width, *x.shape[1:]))
        return wide.reshape(batch * width, *x.shape[1:])

    def longer(beam: tuple, frame: Array) -> tuple[tuple, tuple]:
        """The beam with a symbol more, and as it is closed by a blank."""
        symbols, number, score, state = beam
        found = step(_rows(state), frame).astype(jnp.float32)
        found = jax.nn.log_softmax(found, axis=-1).reshape(batch, width, -1)
        closed = (symbols, number, score + found[..., blank], state)
        more = (score[..., None] + found).at[..., blank].set(_NEVER)
        best, place = lax.top_k(more.reshape(batch, -1), width)
        kinds = found.shape[-1]
        symbols, number, state = _taken((symbols, number, state), place // kinds)
        symbol = (place % kinds).astype(jnp.int32)
        ends = jnp.arange(room, dtype=jnp.int32)[None, None] == number[..., None]
        symbols = jnp.where(ends, symbol[..., None], symbols)
        state = advance(_rows(state), symbol.reshape(-1))
        state = jax.tree.map(lambda x: x.reshape(batch, width, *x.shape[1:]), state)
        return (symbols, number + 1, jnp.maximum(best, _NEVER), state), closed

    def over_frame(beam: tuple, here: tuple[Array, Array]) -> tuple[tuple, None]:
        t, frame = here
        wide = spread(frame)
        levels = most_per_frame + 1
        _, closed = lax.scan(lambda b, _: longer(b, wide), beam, None, length=levels)
        closed = jax.tree.map(
            lambda x: jnp.moveaxis(x, 0, 1).reshape(
                batch, levels * width, *x.shape[3:]
            ),
            closed,
        )
        symbols, number, score, state = closed
        best, place = lax.top_k(_merged(symbols, number, score), width)
        symbols, number, state = _taken((symbols, number, state), place)
        following = (symbols, number, best, state)
        return _chosen(t < lengths, following, beam), None

    first = jnp.where(jnp.arange(width) == 0, 0.0, _NEVER).astype(jnp.float32)
    beam = (
        jnp.zeros((batch, width, room), jnp.int32),
        jnp.zeros((batch, width), jnp.int32),
        jnp.broadcast_to(first[None], (batch, width)),
        jax.tree.map(lambda x: spread(x).reshape(batch, width, *x.shape[1:]), state),
    )
    t = jnp.arange(frames, dtype=jnp.int32)
    beam, _ = lax.scan(over_frame, beam, (t, jnp.swapaxes(encoded, 0, 1)))
    symbols, number, score, _ = beam
    return symbols[:, 0], number[:, 0], score[:, 0]


def to_front(values: Array, keep: Array) -> tuple[Array, Array]:
    """Values [batch, n] that are kept, in their order, zeros behind them; and how many
    they are, int32 [batch]."""
    number = jnp.cumsum(keep.astype(jnp.int32), axis=1)
    place = jnp.where(keep, number - 1, values.shape[1])  # which is nowhere
    row = jnp.arange(values.shape[0])[:, None]
    front = jnp.zeros_like(values).at[row, place].set(values, mode="drop")
    return front, jnp.sum(keep.astype(jnp.int32), axis=1)


def _merged(symbols: Array, number: Array, score: Array) -> Array:
    """The chance of equal words at the first of them, and none at the others."""
    # Behind the number of symbols there are zeros, so that rows are equal as they are.
    equal = number[:, :, None] == number[:, None]
    equal &= jnp.all(symbols[:, :, None] == symbols[:, None], axis=-1)
    each = jnp.where(equal, score[:, None], _NEVER)
    total = jnp.maximum(jax.nn.logsumexp(each, axis=-1), _NEVER)
    n = score.shape[1]
    earlier = jnp.tril(jnp.ones((n, n), bool), -1)[None]
    return jnp.where(jnp.any(equal & earlier, axis=-1), _NEVER, total)


def _taken(tree: Any, place: Array) -> Any:
    """Of leaves [batch, words, ...] the words at ``place`` [batch, width]."""
    row = jnp.arange(place.shape[0])[:, None]
    return jax.tree.map(lambda x: x[row, place], tree)


def _rows(state: State) -> State:
    """Leaves [batch, width, ...] as [batch * width, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state)


def _chosen(where: Array, one: Any, other: Any) -> Any:
    """Rows of one tree where it is said, else of the other."""
    return jax.tree.map(
        lambda a, b: jnp.where(where.reshape(-1, *(1,) * (a.ndim - 1)), a, b),
        one,
        other,
    )


def _check(lengths: Array, frames: Array, most_per_frame: int) -> None:
    """Raises InputError unless frames are [batch, frames, ...] of so many rows."""
    if frames.ndim != 3 or lengths.shape != frames.shape[:1]:
        raise InputError(
            f"frames of shape {frames.shape} need three axes, and lengths "
            f"{frames.shape[:1]}, not {lengths.shape}"
        )
    if most_per_frame < 1:
        raise InputError(f"most_per_frame must be at least 1, not {most_per_frame}")
