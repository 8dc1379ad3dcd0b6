"""The decoders against plain ones: one convolution of everything, no padding, loops over cells."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recurrent_instance_seg.attention import MAPS_GAIN
from recurrent_instance_seg.decoders import Decoder, GuidedDecoder, RSISDecoder
from recurrent_instance_seg.decoders.guided import GUIDE_WEIGHT, MEMORY_GAIN, VOTE_WEIGHT
from recurrent_instance_seg.decoders.parts import convolve_enlarged, inside_image, norm_of
from recurrent_instance_seg.guide import guide_loss, maps_of, vote_loss
from recurrent_instance_seg.targets import stack_targets

KINDS = ("rsis", "guided", "ris")
LEVELS = {"rsis": 3, "guided": 3, "ris": 1}


@pytest.fixture
def build_any(build_rsis, build_guided, build_ris):
    """build_any(kind, norm) -> a small decoder of the conftest."""

    def build(kind, norm=""):
        return {"rsis": build_rsis, "guided": build_guided, "ris": build_ris}[kind](norm)

    return build


def random_memory(size=(2, 16, 24), seed=3):
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def joint_gates(cell, inputs, hidden):
    """One convolution of [constant input, step inputs, hidden state] with the whole kernel."""
    parts = [conv.weight for conv in (cell.constant, cell.step) if conv is not None]
    kernel = torch.cat(parts, dim=1)
    everything = torch.cat([*inputs, hidden], dim=1)
    return F.conv2d(everything, kernel, cell.step.bias, padding=kernel.shape[-1] // 2)


def plain_cell(cell, inputs, state):
    hidden, memory = state
    i, f, o, g = joint_gates(cell, inputs, hidden).chunk(4, dim=1)
    memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
    return o.sigmoid() * memory.tanh(), memory


def plain_positions(like, image_sizes, padded):
    """(B, 2, h, w): x and y of the cells' centres in loops, -1 to 1 over each image."""
    batch, _, rows, columns = like.shape
    grid = like.new_zeros(batch, 2, rows, columns)
    for image, (height, width) in enumerate(image_sizes):
        for r in range(rows):
            for c in range(columns):
                grid[image, 0, r, c] = (c + 0.5) * padded[1] / columns / width * 2 - 1
                grid[image, 1, r, c] = (r + 0.5) * padded[0] / rows / height * 2 - 1
    return grid


def enlarged(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def own_cells(x, image_size, stride):
    """The part (..., h, w) of a padded map that an image touches."""
    return x[..., : math.ceil(image_size[0] / stride), : math.ceil(image_size[1] / stride)]


def plain_mean_under(probabilities, skip):
    """(c,) mean of one image's features, a cell weighted by the mean probability in it."""
    factor = probabilities.shape[0] // skip.shape[1]
    total, weight = 0, 0
    for r in range(skip.shape[1]):
        for c in range(skip.shape[2]):
            block = probabilities[r * factor : (r + 1) * factor, c * factor : (c + 1) * factor]
            total, weight = total + block.mean() * skip[:, r, c], weight + block.mean()
    return total / weight


class PlainPyramid:
    """A decoder of a pyramid as the paper writes it, a step at a time and an image at a time."""

    def __init__(self, decoder, features, image_sizes, padded):
        self.decoder, self.image_sizes, self.padded = decoder, image_sizes, padded
        self.skips = [project(x) for project, x in zip(decoder.project, features)]
        self.guided = isinstance(decoder, GuidedDecoder)
        self.raw = decoder.guide(features[-1]) if self.guided else None
        self.state = [
            (x.new_zeros(len(x), cell.hidden_channels, *x.shape[2:]),) * 2
            for cell, x in zip(decoder.cells, features)
        ]

    def hidden_states(self, memory):
        above = None
        for level, (cell, skip) in enumerate(zip(self.decoder.cells, self.skips)):
            inputs = [skip]
            if self.guided:
                inputs.append(plain_positions(skip, self.image_sizes, self.padded))
                inputs.append(self.guide_at(skip.shape[2:]))
            if above is not None:
                inputs.append(enlarged(above, skip.shape[2:]))
            if self.guided:
                factor = memory.shape[1] // skip.shape[2]
                found = F.avg_pool2d(memory[:, None].to(skip.dtype), factor)
                inputs.append(found * MEMORY_GAIN)
                if skip is self.skips[-1]:
                    self.spot = self.look(above, found[:, 0])
                    inputs.append(self.spot.to(skip.dtype) * MAPS_GAIN)
            self.state[level] = plain_cell(cell, inputs, self.state[level])
            above = self.state[level][0]
        return [hidden for hidden, _ in self.state]

    def guide_at(self, size):
        """What a level reads of the guide: the finest maps, averaged."""
        positions = plain_positions(self.raw, self.image_sizes, self.padded)
        maps = maps_of(self.raw, positions, sizes=self.image_sizes, unit=16.0)
        return F.avg_pool2d(maps, maps.shape[2] // size[0]).detach()

    def look(self, above, found):
        """Scores into ``self.scores``; (B, 3, h, w) maps of the point."""
        attention = self.decoder.attention
        size, stride = self.skips[-1].shape[2:], self.padded[0] // self.skips[-1].shape[2]
        inside = inside_image(self.image_sizes, self.padded, size)
        prepared = attention.prepare(self.raw, stride, 16.0)
        self.scores, maps = attention(above, prepared, inside=inside, memory=found)
        return maps

    def mask(self, finest, image):
        """(h, w) logits of an image."""
        decoder = self.decoder
        x = decoder.mask(enlarged(finest, [2 * n for n in finest.shape[2:]]))[image, 0]
        if self.guided:
            x = x + decoder.attention.mask_logits(enlarged(self.spot, x.shape)[image, 0])
        return x

    def outputs(self, memory):
        """Per image mask, classes, stop."""
        hidden = self.hidden_states(memory)
        results = []
        for image, size in enumerate(self.image_sizes):
            mask = self.mask(hidden[-1], image)
            strides = [self.padded[0] // h.shape[2] for h in hidden]
            own = [own_cells(h[image], size, s) for h, s in zip(hidden, strides)]
            maxima = torch.cat([x.flatten(1).max(dim=1).values for x in own])
            described, votes = maxima, 0
            if self.guided:
                probabilities = torch.zeros_like(mask)
                own_cells(probabilities, size, 2)[:] = own_cells(mask.sigmoid(), size, 2)
                means = [plain_mean_under(probabilities, skip[image]) for skip in self.skips]
                described = torch.cat([maxima, *means]).to(maxima.dtype)
                votes = plain_mean_under(probabilities, self.raw[image, :-3])
            classes = self.decoder.classes(described) + votes
            results.append((mask, classes, self.decoder.stop(maxima)[0]))
        return results


@pytest.mark.parametrize("kind", ["rsis", "guided"])
@pytest.mark.parametrize("norm", ["", "GN"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_a_pyramid_equals_the_plain_decoder(build_any, pyramid, kind, norm, dtype):
    decoder = build_any(kind, norm).to(dtype)
    inputs = pyramid(dtype=dtype)
    prepared, plain = decoder.prepare(*inputs), PlainPyramid(decoder, *inputs)
    # Positions and what competes are float32 whatever the model is.
    exact = dtype == torch.float64 and kind == "rsis"
    tolerance = {"rtol": 0, "atol": 1e-13 if exact else 1e-5}
    state = None
    for number in range(3):
        memory = random_memory(seed=number).to(dtype)
        step, state = decoder(prepared, state, memory)
        expected = plain.outputs(memory)
        torch.testing.assert_close(state, plain.state, **tolerance)
        assert (step.attention is None) == (kind == "rsis")
        if kind == "guided":
            torch.testing.assert_close(step.attention, plain.scores, **tolerance)
        for image, (mask, classes, stop) in enumerate(expected):
            torch.testing.assert_close(step.masks[image], mask.to(step.masks.dtype), **tolerance)
            torch.testing.assert_close(step.classes[image], classes, **tolerance)
            torch.testing.assert_close(step.stop[image], stop, **tolerance)


def quarters_by_hand(x):
    """(4 D,) maxima of (D, h, w): halves that share the middle row or column of an odd number."""
    values = []
    for channel in x:
        rows, columns = channel.shape
        for top, bottom in ((0, math.ceil(rows / 2)), (rows // 2, rows)):
            for left, right in ((0, math.ceil(columns / 2)), (columns // 2, columns)):
                values.append(channel[top:bottom, left:right].max())
    return torch.stack(values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_ris_equals_the_plain_decoder(build_ris, pyramid, dtype):
    decoder = build_ris(inhibition_bias=2.5, inhibition_gain=3.0).to(dtype)
    (x,), sizes, padded = pyramid(1, dtype)
    prepared, state = decoder.prepare([x], sizes, padded), None
    skip = decoder.project(x).clamp(min=0)
    first = second = None
    tolerance = {"rtol": 0, "atol": 1e-13 if dtype == torch.float64 else 1e-5}
    for _ in range(3):
        step, state = decoder(prepared, state)
        first = plain_cell(decoder.cells[0], [skip], first or [x.new_zeros(2, 5, 8, 12)] * 2)
        second = plain_cell(decoder.cells[1], [first[0]], second or [x.new_zeros(2, 3, 8, 12)] * 2)
        torch.testing.assert_close(state, [first, second], **tolerance)
        logits = 3 * torch.einsum("bchw,c->bhw", second[0], decoder.mask.weight[0, :, 0, 0])
        for image, size in enumerate(sizes):
            total = own_cells(logits[image], size, 4).exp().sum().log()
            torch.testing.assert_close(
                step.masks[image], (logits[image] - total + 2.5).float(), rtol=0, atol=1e-5
            )
            pooled = quarters_by_hand(own_cells(second[0][image], size, 4))
            torch.testing.assert_close(step.stop[image], decoder.stop(pooled)[0], **tolerance)
            torch.testing.assert_close(step.classes[image], decoder.classes(pooled), **tolerance)


def pointwise(decoder):
    """The decoder with convolutions that see one cell, so that nothing leaks between cells."""
    for module in decoder.modules():
        if isinstance(module, nn.Conv2d):
            centre = module.kernel_size[0] // 2
            middle = torch.zeros_like(module.weight)
            middle[:, :, centre, centre] = 1
            module.weight.data *= middle
    return decoder


def run_steps(decoder, features, sizes, padded, memory):
    prepared, state, steps = decoder.prepare(features, sizes, padded), None, []
    for _ in range(2):
        step, state = decoder(prepared, state, memory)
        steps.append(step)
    return steps


def without_enlarging(decoder):
    """Two levels whose grid is already that of the masks."""
    torch.manual_seed(0)
    return decoder([4, 4], [5, 3], 3, stride=8, norm="")


@pytest.mark.parametrize("kind", ["rsis", "guided", "ris"])
@torch.no_grad()
def test_padding_never_counts(build_ris, kind):
    """What an image gives does not depend on what its padding holds, nor on its being there."""
    levels = 1 if kind == "ris" else 2
    pyramids = {"rsis": RSISDecoder, "guided": GuidedDecoder}
    decoder = pointwise(build_ris() if kind == "ris" else without_enlarging(pyramids[kind]))
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 4, 8, 12, generator=generator) for _ in range(levels)]
    sizes, padded, memory = [(32, 48), (21, 34)], (32, 48), random_memory((2, 8, 12))
    steps = run_steps(decoder, features, sizes, padded, memory)
    own = (slice(1, 2), Ellipsis, slice(6), slice(9))  # of the second image
    outside = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
    outside[1] = True
    outside[own] = False
    changed = [torch.where(outside, 9.0, x) for x in features]
    other = run_steps(decoder, changed, sizes, padded, memory.where(~outside[:, 0], 1.0))
    cropped = [x[own] for x in features]
    alone = run_steps(decoder, cropped, [(21, 34)], (24, 36), memory[own])
    for step, second, single in zip(steps, other, alone):
        for left, right in ((step, second), (step, single)):
            torch.testing.assert_close(left.masks[own], right.masks[-1:, :6, :9])
            torch.testing.assert_close(left.classes[1], right.classes[-1])
            torch.testing.assert_close(left.stop[1], right.stop[-1])
            if left.attention is not None:
                torch.testing.assert_close(left.attention[own], right.attention[-1:, :6, :9])


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 12), (4, 6), (5, 7)])
def test_inside_image(size):
    inside = inside_image([(40, 60), (1, 1), (21, 33)], (40, 60), size)
    assert inside.shape == (3, *size) and inside.dtype == torch.bool
    for image, (height, width) in enumerate([(40, 60), (1, 1), (21, 33)]):
        for r in range(size[0]):
            for c in range(size[1]):
                on_it = r * 40 / size[0] < height and c * 60 / size[1] < width
                assert inside[image, r, c] == on_it


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other(build_any, pyramid):
    for kind in KINDS:
        decoder, levels = build_any(kind), LEVELS[kind]
        features, sizes, padded = pyramid(levels)
        memory = random_memory()
        together = run_steps(decoder, features, sizes, padded, memory)
        for image in range(2):
            own = slice(image, image + 1)
            alone = run_steps(decoder, [x[own] for x in features], sizes[own], padded, memory[own])
            for step, single in zip(together, alone):
                for name in ("masks", "classes", "stop"):
                    torch.testing.assert_close(getattr(step, name)[own], getattr(single, name))


@pytest.mark.parametrize("norm", ["GN", "BN", ""])
@torch.no_grad()
def test_shapes_and_types(build_any, pyramid, norm):
    for kind in ("rsis", "guided"):
        decoder = build_any(kind, norm)
        assert isinstance(decoder, Decoder) and decoder.num_classes == 3
        prepared = decoder.prepare(*pyramid())
        assert [x.shape for x in prepared.gates] == [(2, 20, 2, 3), (2, 16, 4, 6), (2, 12, 8, 12)]
        assert [x.shape for x in prepared.inside] == [(2, 2, 3), (2, 4, 6), (2, 8, 12)]
        assert prepared.mask_inside.shape == (2, 16, 24) and decoder.mask_stride == 2
        step, state = decoder(prepared)
        assert [h.shape for h, _ in state] == [c.shape for _, c in state]
        assert [h.shape for h, _ in state] == [(2, 5, 2, 3), (2, 4, 4, 6), (2, 3, 8, 12)]
        assert step.masks.shape == (2, 16, 24) and step.classes.shape == (2, 3)
        assert step.stop.shape == (2,)
    assert step.attention.shape == (2, 8, 12)
    assert [x.shape for x in prepared.skips] == [(2, 5, 2, 3), (2, 5, 4, 6), (2, 4, 8, 12)]
    ris = build_any("ris", norm)
    prepared = ris.prepare(*pyramid(1))
    assert [x.shape for x in prepared.gates] == [(2, 20, 8, 12)]
    step, state = ris(prepared)
    assert prepared.mask_inside.shape == step.masks.shape == (2, 8, 12) and ris.mask_stride == 4
    assert [h.shape for h, _ in state] == [(2, 5, 8, 12), (2, 3, 8, 12)]
    assert step.classes.shape == (2, 3) and step.stop.shape == (2,)
    assert step.attention is None


@torch.no_grad()
def test_an_image_of_one_cell(build_any):
    for kind in KINDS:
        decoder, channels = build_any(kind), (6, 5, 4)[-LEVELS[kind] :]
        sides = [2**n for n in range(len(channels))] if len(channels) > 1 else [8]
        features = [torch.randn(1, c, n, n) for c, n in zip(channels, sides)]
        for step in run_steps(decoder, features, [(1, 1)], (16, 16), None):
            assert step.classes.isfinite().all() and step.stop.isfinite().all()
            assert step.masks.isfinite().all()


@pytest.mark.parametrize(("kind", "reads"), [("rsis", False), ("guided", True), ("ris", False)])
@torch.no_grad()
def test_the_memory_is_read_by_the_guided_decoder_alone(build_any, pyramid, kind, reads):
    decoder = build_any(kind)
    prepared = decoder.prepare(*pyramid(LEVELS[kind]))
    without, _ = decoder(prepared)
    empty, _ = decoder(prepared, None, torch.zeros(2, 16, 24))
    full, _ = decoder(prepared, None, random_memory())
    assert torch.equal(without.masks, empty.masks)
    assert torch.equal(without.masks, full.masks) != reads
    assert torch.equal(without.stop, full.stop) != reads


@torch.no_grad()
def test_earlier_masks_are_a_handicap_of_the_points(build_guided, pyramid):
    decoder = build_guided()
    prepared = decoder.prepare(*pyramid())
    memory = torch.zeros(2, 16, 24)
    memory[:, :8] = 1
    # Without what the coarser cells make of it.
    for cell in decoder.cells[:2]:
        cell.step.weight[:, -1 - cell.hidden_channels] = 0
    before, after = (decoder(prepared, None, m)[0].attention for m in (0 * memory, memory))
    inside = prepared.inside[-1]
    lowered = (before - after)[:, :4][inside[:, :4]]
    torch.testing.assert_close(lowered, torch.full_like(lowered, 5.0))
    assert torch.equal(before[:, 4:], after[:, 4:])


@torch.no_grad()
def test_steps_go_on_from_their_state(build_any, pyramid):
    for kind in KINDS:
        decoder = build_any(kind)
        prepared = decoder.prepare(*pyramid(LEVELS[kind]))
        first, state = decoder(prepared)
        second, _ = decoder(prepared, state)
        zeros = [tuple(torch.zeros_like(x) for x in pair) for pair in state]
        assert torch.equal(decoder(prepared, zeros)[0].masks, first.masks)
        assert (second.masks - first.masks).abs().max() > 1e-3


def test_classes_do_not_teach_the_masks_under_which_they_look(build_guided, pyramid):
    decoder = build_guided()
    step, _ = decoder(decoder.prepare(*pyramid()))
    step.classes.sum().backward()
    assert decoder.mask.weight.grad is None and decoder.attention.logits.grad is None
    assert decoder.project[0].weight.grad.any()


@pytest.mark.parametrize("kind", ["rsis", "guided", "ris"])
def test_gradients_reach_every_parameter(build_any, pyramid, kind):
    decoder, inputs = build_any(kind), pyramid(LEVELS[kind])
    steps = run_steps(decoder, *inputs, random_memory())
    total = 0
    for step in steps:
        total = total + sum(x.square().sum() for x in step if x is not None)
    total.backward()
    for name, parameter in decoder.named_parameters():
        # What all rivals have in common cancels in their competition.
        if name != "mask.bias" or kind != "ris":
            assert parameter.grad.abs().max() > 1e-4, name


def test_initial_biases(build_any, build_ris):
    for kind, stop, gates in (
        ("rsis", 0, (0, 0, 0)),
        ("guided", 0, (0, 0, 0)),
        ("ris", 10, (1, 1, 1)),
    ):
        decoder = build_any(kind)
        assert decoder.stop.bias.item() == stop
        for cell in decoder.cells:
            # Small weights are drawn around it.
            means = [x.mean().item() for x in cell.step.bias.chunk(4)]
            assert [round(mean) for mean in means] == [*gates, 0]
    assert build_ris().inhibition.bias.item() == 1
    assert build_ris(inhibition_bias=5.0).inhibition.bias.item() == 5


def test_the_guide_alone_has_losses_of_its_own(build_any, pyramid):
    generator = torch.Generator().manual_seed(2)
    masks = list(torch.rand(2, 3, 32, 48, generator=generator) < 0.3)
    classes = [torch.tensor([0, 2, 1]), torch.tensor([1, 1, 0])]
    targets = stack_targets(masks, classes, torch.ones(2, 32, 48, dtype=torch.bool))
    for kind in KINDS:
        decoder = build_any(kind)
        prepared = decoder.prepare(*pyramid(LEVELS[kind]))
        losses = decoder.auxiliary_losses(prepared, targets)
        if kind != "guided":
            assert losses == {}
            continue
        dense = guide_loss(prepared.guide, targets, stride=4, unit=16.0)
        votes = vote_loss(prepared.guide, targets, stride=4)
        assert losses["loss_guide"] == GUIDE_WEIGHT * dense > 0
        assert losses["loss_vote"] == VOTE_WEIGHT * votes > 0


def test_norm_of_few_channels():
    assert norm_of("", 8) is None
    assert [norm_of("GN", n).num_groups for n in (4, 8, 24, 128)] == [1, 1, 3, 16]
    assert all(n % norm_of("GN", n).num_groups == 0 for n in range(1, 130))
    assert isinstance(norm_of("BN", 8), nn.BatchNorm2d)


@torch.no_grad()
def test_low_precision(build_any, pyramid):
    for kind in KINDS:
        decoder, levels, memory = build_any(kind), LEVELS[kind], random_memory()
        exact = run_steps(decoder, *pyramid(levels), memory)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = run_steps(decoder, *pyramid(levels), memory)
        for step, expected in zip(low, exact):
            # Pixels and points compete in full precision.
            competing = {"rsis": None, "guided": step.attention, "ris": step.masks}[kind]
            assert competing is None or competing.dtype == torch.float32
            torch.testing.assert_close(step.masks.float(), expected.masks, rtol=0, atol=0.1)
            torch.testing.assert_close(step.stop.float(), expected.stop, rtol=0, atol=0.1)


def test_as_many_parameters_as_the_released_code():
    # Five levels, D = 128, 20 classes and one for the end, counted on the released decoder, which
    # leaves the projections to the encoder.
    decoder = RSISDecoder([2048, 1024, 512, 256, 64], [128, 64, 32, 16, 8], 21, stride=2)
    projections = sum(p.numel() for p in decoder.project.parameters())
    assert sum(p.numel() for p in decoder.parameters()) - projections == 2_165_391


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (15, 25)])
def test_convolution_of_an_enlarged_map_on_the_small_one(size):
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 1, kernel_size=3, padding=1).double()
    x = torch.randn(2, 5, 8, 12, dtype=torch.float64, requires_grad=True)
    plain = conv(enlarged(x, size))[:, 0]
    weights = torch.randn_like(plain)
    expected = torch.autograd.grad((plain * weights).sum(), [x, *conv.parameters()])
    result = convolve_enlarged(conv, x, size)
    torch.testing.assert_close(result, plain)
    gradients = torch.autograd.grad((result * weights).sum(), [x, *conv.parameters()])
    torch.testing.assert_close(gradients, expected)
