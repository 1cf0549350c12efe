"""Names of what passes between steps, and what every step is told."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array
"""A typed key as made by ``jax.random.key``."""
Tree = Any
"""A pytree of arrays."""
Params = Any
State = Any
Payload = Any
"""A pytree whose leaves are all arrays inside ``wire.Field``; what travels."""
Side = Any
"""The part of a payload that one stage adds: a pytree of ``wire.Field``."""
Server = Any
ClientState = Any
Record = Any
View = Any
Acc = Any
Metrics = dict[str, Array]
Columns = dict[str, Any]
"""Rows by name, arrays [rows, ...] of jax or numpy: ``features``, ``labels``,
``lengths``, ``weights``, whatever there is."""
Outputs = Any


class Keys(NamedTuple):
    """The randomness of one hop.

    Attributes:
      private: known to the encoder only (stochastic rounding); None for who decodes.
      shared: known to both ends (rotations, masks, hash functions). It is derived
        from run seed, round and client id, which both ends know: it costs no bits.
    """

    private: Key
    shared: Key

    def fold(self, data: int | Array) -> Keys:
        """Both keys folded with what the part belongs to (a leaf, a stage)."""
        fold = lambda key: jax.random.fold_in(key, data)  # noqa: E731
        return Keys(*jax.tree.map(fold, tuple(self)))


class Context(NamedTuple):
    """What every step of an algorithm is told beside its data: it costs no bits.

    Attributes:
      keys: of this client and round; of the round at the server.
      round: int32 scalar, 0-based.
      common: shared key of the round, the same for all clients and the server.
      params: the parameters before the first round, which follow from the seed.
      inputs: one client's row of the planner's table, scalars by name: ``client``, its
        id, ``examples``, the number of its rows, ``tier`` where there are tiers,
        ``staleness`` where nobody waits. Empty at the server; only ``examples`` for
        what one client does before the first round.
      public: rows that server and clients have and that belong to no client; as in
        ``Algorithm.public``.
    """

    keys: Keys
    round: Array
    common: Key
    params: Params
    inputs: dict[str, Array] = {}  # noqa: RUF012  (nobody writes to it)
    public: Columns = {}  # noqa: RUF012

    def fold(self, data: int | Array) -> Context:
        """The same with both keys folded."""
        return self._replace(keys=self.keys.fold(data))

    @property
    def decoding(self) -> Context:
        """The same without the encoder's private key."""
        return self._replace(
            keys=self.keys._replace(private=None)  # type: ignore[arg-type]
        )
