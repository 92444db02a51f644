"""The fast formulation against tests/reference, the plain one: the same numbers, forward and backward."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from mm_ovseg.modeling.aggregator import CostVolumeAggregator
from mm_ovseg.modeling.decoder import GuidedDecoder
from tests.conftest import random_pair
from tests.reference.plain import plain_aggregator, plain_decoder, plain_logits, plain_loss

EDGES = (1, 255, 256, 257, 300)  # around the 256 tokens of the class attention
# Of outputs and of gradients, relative. Rounding may move a value across the kink of a ReLU, which adds or removes a
# whole term of the gradients; in float32 that happens to a few of ten million values, so float64 is the sharp test.
TOLERANCES = {torch.float64: (1e-12, 1e-11), torch.float32: (1e-5, 2e-2)}

NAMES = ("water, river, lake", "road", "building", "tree")
SMALL = ["MODEL.CLIP.IMAGE_SIZE", 96, "MODEL.DENSE_ENCODER.IMAGE_SIZE", 96, "MODEL.AGGREGATOR.WINDOW_SIZE", 3]
NO_SAR = ["MODEL.DENSE_ENCODER_SAR.ENABLED", False]
NO_DINO = [*NO_SAR, "MODEL.DENSE_ENCODER.ENABLED", False]
CHUNKED = ["MODEL.AGGREGATOR.CLASS_CHUNK", 3, "MODEL.ACTIVATION_CHECKPOINTING", True]
MODELS = pytest.mark.parametrize(
    "overrides", [[], NO_SAR, NO_DINO, CHUNKED], ids=["full", "no_sar", "no_dino", "chunk"]
)


@dataclass(frozen=True)
class Case:
    classes: int
    batch: int = 1
    window: int = 2
    grid: int = 4
    pooling: int = 2
    layers: int = 1
    heads: int = 2
    encoders: int = 2
    class_chunk: int = 0
    recompute: bool = False
    seed: int = 0


def cases(window_and_grid):
    return st.builds(
        Case,
        classes=st.one_of(st.sampled_from(EDGES), st.integers(1, 300)),
        batch=st.integers(1, 3),
        window=st.just(window_and_grid[0]),
        grid=st.just(window_and_grid[1]),
        pooling=st.sampled_from([1, 2]),
        layers=st.integers(1, 2),
        heads=st.sampled_from([1, 2, 4]),
        encoders=st.integers(1, 2),
        class_chunk=st.sampled_from([0, 7, 64, 300]),
        recompute=st.booleans(),
        seed=st.integers(0, 2**16),
    )


CASES = st.sampled_from([(2, 2), (2, 4), (2, 6), (3, 6), (4, 4)]).flatmap(cases)


def over_cases(test):
    """Run a test over random cases, the same in every run, and over the edges of the class count."""
    for classes in EDGES:
        test = example(case=Case(classes, class_chunk=16))(test)
    # Without shrinking, which takes minutes where a case fails.
    phases = [Phase.explicit, Phase.generate]
    return settings(max_examples=10, derandomize=True, phases=phases)(given(case=CASES)(test))


def randomize(module, dtype):
    """Random weights, biases and padding tokens included, and every weight of a norm near 1."""
    for name, parameter in module.named_parameters():
        is_norm_weight = "norm" in name and name.endswith("weight")
        torch.nn.init.normal_(parameter, mean=float(is_norm_weight), std=0.3)
    return module.to(dtype)


def aggregator_of(case, dtype=torch.float32):
    """An aggregator and its inputs."""
    torch.manual_seed(case.seed)
    aggregator = CostVolumeAggregator(
        layers=case.layers,
        width=8,
        heads=case.heads,
        grid_size=case.grid,
        window_size=case.window,
        dense_channels=10,
        text_channels=10,
        appearance_width=6,
        text_width=5,
        class_pooling=case.pooling,
        padded_classes=256,
        class_chunk=case.class_chunk,
        recompute=case.recompute,
    )
    cost = torch.randn(case.batch, case.classes, 8, case.grid, case.grid, dtype=dtype)
    dense = torch.randn(case.batch, 10, case.grid, case.grid, dtype=dtype)
    text = torch.randn(case.batch, case.classes, 10, dtype=dtype)
    return randomize(aggregator, dtype), [cost, dense, text]


def decoder_of(case, dtype=torch.float32):
    """A decoder and its inputs: class maps, then the guidance maps of every encoder."""
    torch.manual_seed(case.seed)
    size = case.grid // 2
    decoder = GuidedDecoder(
        in_channels=12,
        widths=[16, 16],
        encoder_guidance_channels=[[10, 6]] * case.encoders,
        guidance_widths=[4, 3],
        class_chunk=case.class_chunk,
        recompute=case.recompute,
    )
    x = torch.randn(case.batch, case.classes, 12, size, size, dtype=dtype)
    guidance = [
        torch.randn(case.batch, channels, scale * size, scale * size, dtype=dtype)
        for _ in range(case.encoders)
        for channels, scale in [(10, 2), (6, 4)]
    ]
    return randomize(decoder, dtype), [x, *guidance]


def fast_decoder(module, x, *guidance):
    return module(x, module.project_guidance(list(zip(guidance[::2], guidance[1::2], strict=True))))


def concatenating_decoder(module, x, *guidance):
    return plain_decoder(module, x, list(zip(guidance[::2], guidance[1::2], strict=True)))


def fast_aggregator(module, cost, dense, text):
    return module(cost, module.project_appearance(dense), text)


def output_and_gradients(function, module, inputs):
    """What a function of module and inputs returns, and the gradients of inputs and of every parameter."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    module.zero_grad()
    output = function(module, *inputs)
    generator = torch.Generator().manual_seed(1)
    output.backward(torch.randn(output.shape, generator=generator).to(output.dtype))
    return output.detach(), [gradient_of(tensor) for tensor in (*inputs, *module.parameters())]


def gradient_of(tensor):
    # The plain formulation leaves out what does not matter where the fast one has a gradient of zero.
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.clone()


def relative_error(actual, expected, floor=0.0):
    """The norm of the difference, over that of what is expected."""
    return float((actual.double() - expected.double()).norm() / (expected.double().norm() + floor))


def assert_same_gradients(actual, expected, tolerance):
    # Some are zero but for rounding, such as that of a key's bias; they are held against the rest.
    floor = 1e-2 * torch.stack([gradient.double().norm() for gradient in expected]).max()
    for ours, plain in zip(actual, expected, strict=True):
        assert relative_error(ours, plain, floor) < tolerance


def assert_same_function(fast, plain, module, inputs):
    output_tolerance, gradient_tolerance = TOLERANCES[inputs[0].dtype]
    output, gradients = output_and_gradients(fast, module, inputs)
    plain_output, plain_gradients = output_and_gradients(plain, module, inputs)
    assert output.shape == plain_output.shape
    assert relative_error(output, plain_output) < output_tolerance
    assert_same_gradients(gradients, plain_gradients, gradient_tolerance)


def assert_as_exact_in_bfloat16(fast, plain, module, inputs):
    """Under autocast, fast is no further from the plain float32 numbers than plain itself, but for chance."""
    expected, expected_gradients = output_and_gradients(plain, module, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        output, gradients = output_and_gradients(fast, module, inputs)
        plain_output, plain_gradients = output_and_gradients(plain, module, inputs)
    assert relative_error(output, expected) < 1.5 * relative_error(plain_output, expected) + 2e-3
    ours, plains, exact = (
        torch.cat([gradient.flatten() for gradient in tensors])
        for tensors in (gradients, plain_gradients, expected_gradients)
    )
    # Kinks again: either one may be several times closer than the other, neither on average.
    assert relative_error(ours, exact) < 2 * relative_error(plains, exact) + 0.1


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@over_cases
def test_aggregator_equals_repeated_guidance_explicit_attention_and_real_padding(dtype, case):
    assert_same_function(fast_aggregator, plain_aggregator, *aggregator_of(case, dtype))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@over_cases
def test_decoder_equals_guidance_concatenated_for_every_class(dtype, case):
    assert_same_function(fast_decoder, concatenating_decoder, *decoder_of(case, dtype))


@over_cases
def test_aggregator_in_bfloat16_is_as_exact_as_the_plain_one(case):
    assert_as_exact_in_bfloat16(fast_aggregator, plain_aggregator, *aggregator_of(case))


@over_cases
def test_decoder_in_bfloat16_is_as_exact_as_the_plain_one(case):
    assert_as_exact_in_bfloat16(fast_decoder, concatenating_decoder, *decoder_of(case))


@MODELS
def test_model_predicts_the_plain_logits(make_model, overrides):
    model = make_model(*SMALL, *overrides).eval()
    pairs = [random_pair(seed=0), random_pair(height=96, width=96, seed=1)]
    with torch.no_grad():
        assert relative_error(model.predict_logits(pairs, NAMES), plain_logits(model, pairs, NAMES)) < 1e-4


@MODELS
@pytest.mark.parametrize("sizes", [((48, 64), (48, 64)), ((48, 64), (40, 32))], ids=["one_size", "two_sizes"])
def test_model_trains_on_the_plain_loss_and_gradients(make_model, overrides, sizes):
    model = make_model(*SMALL, *overrides).train()
    model.train_vocabulary = NAMES
    pairs = [random_pair(*size, seed=seed, num_classes=len(NAMES)) for seed, size in enumerate(sizes)]
    pairs[0]["sem_seg"][:10] = model.ignore_label
    results = []
    for loss in (model(pairs)["loss_sem_seg"], plain_loss(model, pairs)):
        model.zero_grad()
        loss.backward()
        results.append((loss.detach(), [gradient_of(p) for p in model.parameters() if p.requires_grad]))
    (ours, our_gradients), (plain, plain_gradients) = results
    assert relative_error(ours, plain) < 1e-5
    assert_same_gradients(our_gradients, plain_gradients, TOLERANCES[torch.float32][1])


@pytest.mark.parametrize(
    "overrides",
    [["LOSS.NAME", "cross_entropy"], ["LOSS.IGNORED_AS_NEGATIVE", False]],
    ids=["cross_entropy", "ignored_left_out"],
)
def test_other_losses_equal_the_plain_ones(make_model, overrides):
    model = make_model(*SMALL, *NO_DINO, *overrides).train()
    model.train_vocabulary = NAMES
    pairs = [random_pair(seed=seed, num_classes=len(NAMES)) for seed in range(2)]
    pairs[0]["sem_seg"][:10] = model.ignore_label
    with torch.no_grad():
        assert relative_error(model(pairs)["loss_sem_seg"], plain_loss(model, pairs)) < 1e-5
