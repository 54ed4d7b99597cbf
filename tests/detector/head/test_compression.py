"""Compression of fc layers: the energy rule, the truncation error, and the card's record."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sppnet.data.errors import InputError
from sppnet.detector.head import compression
from sppnet.detector.head.compression import compress, describe, for_device, learns_in_bfloat16
from sppnet.detector.head.head import Head
from sppnet.detector.options import Compression


def matrix_of(values, rows, columns, seed=0):
    """A matrix with these singular values."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, rows)))[0][:, : len(values)]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0][:, : len(values)]
    return torch.from_numpy((left * np.array(values)) @ right.T).float()


def head_with(fc6, seed=0):
    head = Head(fc6.shape[1], fc6.shape[0], 3, seed=seed, scale=0.5).eval()
    with torch.no_grad():
        head.fc6.weight.copy_(fc6)
        head.fc6.bias.normal_(generator=torch.Generator().manual_seed(seed))
    return head


def rows_of(count, width):
    return torch.from_numpy(np.random.default_rng(5).standard_normal((count, width)).astype(np.float32))


@pytest.mark.parametrize(("rows", "columns"), [(12, 60), (60, 12)])
@pytest.mark.parametrize(("energy", "rank"), [(0.5, 1), (0.64, 1), (0.65, 2), (0.99, 2), (0.9999, 3)])
def test_rank_is_the_least_that_keeps_the_energy(rows, columns, energy, rank):
    # Squared: 64, 36 less a little, and a little: shares 0.64..., 0.35..., 0.001.
    head = head_with(matrix_of([8, 35.9**0.5, 0.1**0.5], rows, columns))
    small = compress(head, Compression(svd=energy))
    assert small.state()["fc6.0.weight"].shape == (rank, columns)
    assert small.state()["fc6.1.weight"].shape == (rows, rank)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.sampled_from([(8, 40), (40, 8), (20, 20)]),
    rank=st.integers(1, 9),
    seed=st.integers(0, 1000),
    decay=st.floats(0.1, 1.0),
)
def test_error_is_that_of_the_values_left_out(shape, rank, seed, decay):
    """Eckart and Young: no matrix of the rank is nearer, and this one is as near as the dropped values say."""
    values = decay ** np.arange(min(shape))
    weight = matrix_of(values, *shape, seed=seed)
    found = compression._truncated(weight, rank)
    if rank * sum(shape) >= shape[0] * shape[1]:
        assert found is None
        return
    first, second = found
    error = np.linalg.norm((second @ first - weight).numpy(), 2)
    dropped = values[rank] if rank < len(values) else 0.0
    # Float32 factors: their rounding is relative to the largest value, 1.
    assert error == pytest.approx(dropped, abs=1e-5)


def test_layer_of_low_rank_is_kept_exactly():
    head = head_with(matrix_of([3, 2, 1], 12, 60))
    small = compress(head, Compression(svd=0.99999))
    assert small.state()["fc6.0.weight"].shape[0] == 3
    rows = rows_of(5, 60)
    np.testing.assert_allclose(small.output(rows, "fc6"), head.output(rows, "fc6"), rtol=1e-4, atol=1e-5)


def test_rows_that_lie_in_few_directions_need_no_more_rank():
    """Weights of full rank, windows in three directions about a mean: three are enough, and the mean is kept."""
    head = Head(60, 24, 3, seed=2, scale=0.5).eval()
    rng = np.random.default_rng(0)
    rows = torch.from_numpy((5 + rng.standard_normal((200, 3)) @ rng.standard_normal((3, 60))).astype(np.float32))
    blind, seeing = compress(head, Compression(svd=3)), compress(head, Compression(svd=3), rows)
    expected = head.output(rows, "fc6")
    np.testing.assert_allclose(seeing.output(rows, "fc6"), expected, rtol=1e-3, atol=1e-3)
    assert float((blind.output(rows, "fc6") - expected).norm()) > 0.1 * float(expected.norm())
    assert compress(head, Compression(svd=0.999), rows).state()["fc6.0.weight"].shape[0] <= 3


def test_what_would_save_nothing_stays_whole():
    head = head_with(matrix_of(np.ones(12), 12, 60))
    small = compress(head, Compression(svd=11))
    assert set(small.state()) == set(head.state())
    assert describe(head, small)["ranks"] == {}
    assert compress(head, Compression(svd=10_000)).state().keys() == head.state().keys()


def test_zeros_have_rank_one():
    small = compress(head_with(torch.zeros(12, 60)), Compression(svd=0.9))
    assert small.state()["fc6.0.weight"].shape == (1, 60)
    assert small.output(rows_of(2, 60), "fc6").isfinite().all()


def test_the_head_given_stays_as_it_is():
    head = head_with(matrix_of([3, 2, 1], 12, 60))
    before = {name: value.clone() for name, value in head.state().items()}
    compress(head, Compression(svd=1, bfloat16=True))
    assert all(torch.equal(value, before[name]) for name, value in head.state().items())


def test_bfloat16_halves_the_bytes_and_little_else():
    head = Head(200, 64, 3, seed=1, scale=0.5).eval()
    small = compress(head, Compression(bfloat16=True))
    assert {value.dtype for name, value in small.state().items() if name[:3] in ("fc6", "fc7")} == {torch.bfloat16}
    assert small.state()["fc8.weight"].dtype == small.scale.dtype == torch.float32
    rows = rows_of(20, 200)
    expected, found = head.output(rows, "fc7"), small.output(rows, "fc7")
    assert found.dtype == torch.float32
    # Eight bits of mantissa: each rounding of inputs, weights and outputs is up to 2^-9 of its value.
    assert float((found - expected).norm() / expected.norm()) < 0.01
    assert not torch.equal(found, expected)


def test_description_counts_bytes_and_multiplications():
    head = head_with(matrix_of([3, 2, 1], 12, 60))
    small = compress(head, Compression(svd=2, bfloat16=True))
    description = describe(head, small)
    energies = description.pop("kept_energy")
    squares = np.linalg.svd(head.fc7.weight.detach().numpy(), compute_uv=False) ** 2
    # bfloat16 weights are off by up to 2^-9 each, their product's square by far less than 1e-3 of the energy.
    assert energies == pytest.approx({"fc6": 13 / 14, "fc7": squares[:2].sum() / squares.sum()}, abs=1e-3)
    assert description == {
        "ranks": {"fc6": 2, "fc7": 2},
        "bytes_before": 4 * (12 * 60 + 12 * 12),
        "bytes": 2 * (2 * (12 + 60) + 2 * (12 + 12)),
        "multiplications_before": 12 * 60 + 12 * 12,
        "multiplications": 2 * (12 + 60) + 2 * (12 + 12),
    }


def test_columns_without_weights_cost_nothing_whole_or_factored():
    fc6 = torch.zeros(12, 60)
    fc6[:, 20:50] = matrix_of([3, 2, 1], 12, 30)
    head = head_with(fc6)
    small = compress(head, Compression(svd=3))
    assert not small.fc6[0].weight[:, :20].any()
    assert not small.fc6[0].weight[:, 50:].any()
    rows = rows_of(5, 60)
    np.testing.assert_allclose(small.output(rows, "fc6"), head.output(rows, "fc6"), rtol=1e-4, atol=1e-5)
    found = describe(head, small)
    assert found["multiplications_before"] == 12 * 30 + 12 * 12
    assert found["multiplications"] == 3 * (12 + 30) + 3 * (12 + 12)
    # Rank 9 would save on 60 columns, not on 30.
    assert "fc6.weight" in compress(head, Compression(svd=9)).state()


def test_factored_state_comes_back_the_same():
    small = compress(head_with(matrix_of([3, 2, 1], 12, 60)), Compression(svd=2, bfloat16=True))
    again = Head.from_state(small.state("fc7"))
    rows = rows_of(3, 60)
    assert torch.equal(again.output(rows, "fc7"), small.output(rows, "fc7"))
    assert (again.width("fc6"), again.dtype) == (12, torch.bfloat16)


@pytest.mark.parametrize("fast", [True, False])
def test_precision_is_the_quickest_of_the_device(monkeypatch, fast):
    monkeypatch.setattr(compression, "bfloat16_is_fast", lambda device: fast)
    small = compress(Head(60, 12, 3).eval(), Compression(bfloat16=True))
    assert for_device(small, torch.device("cpu")).dtype == (torch.bfloat16 if fast else torch.float32)
    assert small.dtype == torch.bfloat16
    assert for_device(Head(60, 12, 3).eval(), torch.device("cpu")).dtype == torch.float32


@pytest.mark.parametrize("fast", [True, False])
def test_layers_learn_in_bfloat16_on_a_gpu_alone(monkeypatch, fast):
    """On a CPU its products depend on the number of threads."""
    monkeypatch.setattr(compression, "bfloat16_is_fast", lambda device: fast)
    assert not learns_in_bfloat16(torch.device("cpu"))
    assert learns_in_bfloat16(torch.device("cuda")) is fast


@pytest.mark.parametrize("kind", ["_is_amx_tile_supported", "_is_avx512_bf16_supported", None])
def test_bfloat16_is_fast_on_cpus_with_instructions_for_it(monkeypatch, kind):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda has=name == kind: has, raising=False)
    assert compression.bfloat16_is_fast(torch.device("cpu")) is (kind is not None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("svd", Compression(0.95)),
        ("svd=0.8", Compression(0.8)),
        ("svd=256", Compression(256)),
        ("bfloat16", Compression(None, True)),
        ("svd=0.9, bfloat16", Compression(0.9, True)),
        ("bfloat16,svd=32", Compression(32, True)),
    ],
)
def test_text_names_a_compression(text, expected):
    assert Compression.parse(text) == expected
    assert Compression.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int8", "unknown compression 'int8'; expected svd, svd=0.9"),
        ("svd=many", "unknown compression 'svd=many'"),
        ("bfloat16=1", "unknown compression 'bfloat16=1'"),
        ("", "unknown compression ''"),
        ("svd=1.5", "between 0 and 1, or a rank from 1 up, not 1.5"),
        ("svd=0", "between 0 and 1, or a rank from 1 up, not 0"),
        ("svd=nan", "not nan"),
    ],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Compression.parse(text)


def test_nothing_to_do_is_refused():
    with pytest.raises(InputError, match="a compression is one of svd"):
        Compression()
