"""Server optimizers against their published recurrences in plain numpy."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from systems import server_told

from fedjax_compress import registry
from fedjax_compress.errors import InputError

RNG = np.random.default_rng(3)
UPDATES = RNG.normal(size=(6, 4)).astype(np.float32)
START = RNG.normal(size=4).astype(np.float32)


def trajectory(text):
    server = registry.build("server", text)
    params = {"w": jnp.asarray(START)}
    state = server.init(params)
    for update in UPDATES:
        mean, told = {"w": jnp.asarray(update)}, server_told(params)
        params, state = server.apply(mean, state, params, told)
    return np.asarray(params["w"])


def adaptive(lr, b1, tau, second, initial=None):
    """Algorithm 2 of Reddi et al. 2021, from v_-1 = tau^2 unless told otherwise."""
    w, m, v = START.astype(np.float64), np.zeros(4), np.full(4, tau**2)
    v = v if initial is None else np.full(4, initial)
    for u in UPDATES.astype(np.float64):
        m = b1 * m + (1 - b1) * u
        v = second(v, u)
        w = w + lr * m / (np.sqrt(v) + tau)
    return w


def test_fedavg_adds_the_mean():
    one = START + UPDATES.sum(0)
    np.testing.assert_allclose(trajectory("fedavg"), one, rtol=1e-5)
    np.testing.assert_allclose(
        trajectory("fedavg(lr=0.5)"), START + 0.5 * UPDATES.sum(0), rtol=1e-5
    )


def test_fedavgm_keeps_a_velocity():
    w, m = START.copy(), np.zeros(4, np.float32)
    for u in UPDATES:
        m = 0.8 * m + u
        w = w + 0.3 * m
    found = trajectory("fedavgm(lr=0.3, momentum=0.8)")
    np.testing.assert_allclose(found, w, rtol=1e-5)
    plain = trajectory("fedavgm(lr=0.3, momentum=0.0)")
    np.testing.assert_allclose(plain, trajectory("fedavg(lr=0.3)"), rtol=1e-6)


def test_fedavgm_with_nesterov_looks_ahead():
    """The step is momentum m + mean, with m already moved."""
    w, m = START.copy(), np.zeros(4, np.float32)
    for u in UPDATES:
        m = 0.8 * m + u
        w = w + 0.3 * (0.8 * m + u)
    found = trajectory("fedavgm(lr=0.3, momentum=0.8, nesterov=true)")
    np.testing.assert_allclose(found, w, rtol=1e-5)


def test_adaptive_methods_follow_the_paper():
    def adagrad(v, u):
        return v + u**2

    def adam(v, u):
        return 0.95 * v + 0.05 * u**2

    def yogi(v, u):
        return v - 0.05 * u**2 * np.sign(v - u**2)

    options = "lr=0.1, b1=0.8, b2=0.95, tau=0.01"
    start = f"{options}, initial=0.4"
    large = options.replace("0.01", "0.5")  # what v starts at is seen
    for text, expected in [
        ("fedadagrad(lr=0.1, tau=0.01)", adaptive(0.1, 0.0, 0.01, adagrad)),
        (f"fedadam({options})", adaptive(0.1, 0.8, 0.01, adam)),
        (f"fedyogi({options})", adaptive(0.1, 0.8, 0.01, yogi)),
        (f"fedadam({large})", adaptive(0.1, 0.8, 0.5, adam)),
        (f"fedyogi({large})", adaptive(0.1, 0.8, 0.5, yogi)),
        ("fedadagrad(lr=0.1, tau=0.5)", adaptive(0.1, 0.0, 0.5, adagrad)),
        (f"fedadam({options}, initial=0.0)", adaptive(0.1, 0.8, 0.01, adam, 0.0)),
        (f"fedyogi({start})", adaptive(0.1, 0.8, 0.01, yogi, 0.4)),
    ]:
        np.testing.assert_allclose(trajectory(text), expected, rtol=1e-4)


def test_optax_by_name_equals_fedavg():
    found = trajectory("optax(sgd, lr=0.5)")
    np.testing.assert_array_equal(found, trajectory("fedavg(lr=0.5)"))


def test_an_optimizer_of_optax_gets_the_negative_mean_and_its_options():
    """Adam's first step is lr against the gradient, so along the update."""
    server = registry.build("server", "optax(adam, lr=0.5, b1=0.5, b2=0.5, eps=1e-3)")
    params = {"w": jnp.asarray(START)}
    mean, told = {"w": jnp.asarray(UPDATES[0])}, server_told(params)
    found, _ = server.apply(mean, server.init(params), params, told)
    u = UPDATES[0].astype(np.float64)
    expected = START + 0.5 * u / (np.abs(u) + 1e-3)
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fedavg(lr=-1.0)", "lr must be positive"),
        ("fedadam(b1=1.0)", r"b1 must be in \[0, 1\)"),
        ("fedyogi(b2=-0.1)", r"b2 must be in \[0, 1\)"),
        ("fedadagrad(tau=0)", "tau must be positive"),
        ("fedadam(initial=-1)", "initial must not be negative"),
        ("fedavgm(momentum=1)", "momentum must be in"),
        ("optax(adamm, lr=1)", "has no 'adamm'"),
        ("optax(lbfgs, lr=1)", "optax.lbfgs needs more than gradients"),
        ("optax(sgd, lr=1, learning_rate=2)", "lr and learning_rate are one option"),
        ("optax(adafactor, lr=1, min_dim_size_to_factor=0.5, b9=1)", "no option 'b9'"),
        ("fedadm", "did you mean 'fedadam'"),
    ],
)
def test_bad_options_are_refused_in_one_line(text, words):
    with pytest.raises(InputError, match=words):
        registry.build("server", text)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of optax
def test_an_option_that_is_refused_only_when_it_runs_is_one_line():
    server = registry.build("server", "optax(noisy_sgd, lr=0.1, seed=0.5)")
    with pytest.raises(InputError, match=r"^optax.noisy_sgd: PRNG key seed must be an"):
        server.init({"w": jnp.asarray(START)})
