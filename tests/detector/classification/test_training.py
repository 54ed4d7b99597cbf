"""Training: it learns a planted problem; every rule is checked by hand or against a slow reference."""

import math

import numpy as np
import pytest
import torch
from sppnet.data.errors import InputError
from sppnet.data.labelled import LabelledImage, LabelledImages
from sppnet.detector.classification.network import SPPClassifier
from sppnet.detector.classification.options import ClassifierOptions
from sppnet.detector.classification.train import Training, classification_loss, one_view
from sppnet.detector.convolutions.normalisation import normalised
from sppnet.detector.descent.descent import drops_at_plateaus
from sppnet.detector.descent.epochs import Epoch
from sppnet.detector.descent.options import Augmentation, LearnOptions
from sppnet.detector.descent.photographs import Photographs

NAMES = ("red", "green", "blue")


@pytest.fixture
def training(photographs):
    """Makes a training of a small network on twelve photographs of 64 pixels, as a rule."""

    def make(kept=None, held_out=None, fit="any", network_seed=0, report=lambda line: None, **learn):
        kept = photographs(12) if kept is None else kept
        learn = {"epochs": 2, "batch": 4, "sizes": (kept.side,), "mixed": False} | learn
        options = ClassifierOptions(
            levels=(1, 2), width=32, size=kept.side, fit=fit, multi_label=kept.images.multi_label
        )
        network = SPPClassifier(NAMES, options=options, seed=network_seed)
        return Training(network, kept, held_out, LearnOptions(**learn), Augmentation("paper"), report)

    return make


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []


def dealt_anew(images):
    """The same photographs, read, with labels that their colours do not tell: each label goes to all colours alike."""
    dealt = [LabelledImage(image.path, images[index // 3].labels) for index, image in enumerate(images)]
    return Photographs(LabelledImages(dealt, images.class_names, images.multi_label), 64, "reading", quiet=True)


# Whether it learns


def test_learns_what_is_planted_and_nothing_where_nothing_is(training, photographs, labelled):
    held_out = photographs(30, seed=1)
    lines = []
    planted = training(photographs(48), held_out, epochs=5, batch=16, report=lines.append)
    planted.run()
    network = planted.network
    assert not network.training
    assert planted.history[-1].held_out_score > 0.9
    assert planted.history[-1].held_out_loss < planted.history[0].held_out_loss
    assert planted.history[-1].loss < 0.5 < planted.history[0].loss
    logits, targets = one_view(network, held_out)
    assert (logits.argmax(dim=1) == targets).float().mean() == pytest.approx(planted.history[-1].held_out_score)
    assert len(lines) == 5
    assert lines[-1].startswith("epoch 5 of 5: 64 pixels, rate ")
    assert lines[-1].endswith(f"top-1 {planted.history[-1].held_out_score:.3f}")

    chance = training(dealt_anew(labelled(45)), dealt_anew(labelled(27, seed=1)), epochs=5, batch=15)
    chance.run()
    assert chance.history[-1].held_out_score < 0.6
    assert chance.history[-1].held_out_loss > 1


def test_learns_several_labels(training, photographs, labelled):
    held_out = photographs(30, seed=1, multi_label=True)
    lines = []
    planted = training(photographs(48, multi_label=True), held_out, epochs=6, batch=16, report=lines.append)
    planted.run()
    last = planted.history[-1]
    assert last.held_out_score > 0.85
    assert last.held_out_top5 is None
    assert lines[-1].endswith(f"held out: loss {last.held_out_loss:.3f}, mAP {last.held_out_score:.3f}")
    images = [labelled(count, seed, multi_label=True) for count, seed in ((48, 0), (30, 1))]
    chance = training(*map(dealt_anew, images), epochs=6, batch=16)
    chance.run()
    assert chance.history[-1].held_out_score < 0.75


@pytest.mark.parametrize("fit", ["crop", "warp"])
def test_twins_without_spp_learn_at_their_size(training, fit):
    learnt = training(fit=fit, epochs=1, sizes=(64,))
    before = state_of(learnt.network)
    learnt.run()
    assert learnt.history[0].size == 64
    assert not torch.equal(before["layers.1.weight"], learnt.network.state_dict()["layers.1.weight"])


def test_mixed_precision_keeps_single_precision_weights(training):
    learnt = training(epochs=1, mixed=True)
    learnt.run()
    assert math.isfinite(learnt.history[0].loss)
    assert {value.dtype for value in learnt.network.parameters()} == {torch.float32}


def test_every_epoch_has_its_size(training, photographs):
    kept, seen = photographs(8, side=80), []
    learnt = training(kept, epochs=3, batch=4, sizes=(80, 64))
    step = learnt._step

    def watched(batch):
        seen.append(tuple(batch.images.shape))
        return step(batch)

    learnt._step = watched
    learnt.run()
    assert [epoch.size for epoch in learnt.history] == [80, 64, 80]
    assert seen == [(4, side, side, 3) for side in (80, 64, 80) for _ in range(2)]


# Going on where it was


@pytest.mark.parametrize("learn", [{}, {"average": 0.8}, {"optimizer": "adamw"}, {"momentum": 0.0}], ids=str)
def test_the_disk_for_two_checkpoints_is_said_before(training, tmp_path, messages, capsys, learn):
    learnt = training(epochs=1, sizes=(64,), **learn)
    learnt.run_resumably(tmp_path, "classifier", "key", lambda: None, quiet=False)
    (checkpoint,) = tmp_path.glob("*.npz")
    assert learnt._checkpoint_bytes() == pytest.approx(checkpoint.stat().st_size, rel=0.02)
    assert capsys.readouterr().err.startswith(
        f"disk: about {2 * learnt._checkpoint_bytes() / 1e6:.0f} MB in {tmp_path}, 0 MB"
    )


class StopError(Exception):
    """Ends a run after an epoch."""


@pytest.mark.parametrize("learn", [{}, {"average": 0.8}, {"sizes": (80, 64)}], ids=str)
@pytest.mark.parametrize("done", [1, 2])
def test_resumed_bit_for_bit(training, photographs, learn, done):
    kept, held_out = photographs(10, side=80), photographs(6, seed=1, side=80)
    learn = {"epochs": 3, "sizes": (80,)} | learn
    whole = training(kept, held_out, **learn)
    whole.run()

    stopped, states = training(kept, held_out, **learn), []

    def after_epoch():
        states.append(stopped.state())
        if len(states) == done + 1 or len(states) == 3:
            raise StopError

    with pytest.raises(StopError):
        stopped.run(after_epoch)
    # The state of an epoch stays what it was while training goes on in place, and is not changed by what goes on.
    state = states[done - 1]
    before = {name: value.copy() for name, value in state.items()}
    torch.manual_seed(99)
    resumed = training(kept, held_out, network_seed=5, **learn)
    resumed.restore(state)
    assert len(resumed.history) == done
    resumed.run()
    assert resumed.history == whole.history
    assert_same(resumed.network.state_dict(), whole.network.state_dict())
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


def test_the_global_generator_is_left_alone_and_does_not_matter(training):
    first, second = training(epochs=1), training(epochs=1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first.run()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    second.run()
    assert_same(first.network.state_dict(), second.network.state_dict())


def test_the_seed_matters(training):
    first, second = training(epochs=1), training(epochs=1, seed=1)
    first.run()
    second.run()
    assert first.history[0].loss != second.history[0].loss


def test_a_state_keeps_what_is_not_known(training, photographs):
    # None of the classes is shown: there is a loss, but no mAP.
    (image, *_) = photographs(3).images
    nothing = LabelledImages([LabelledImage(image.path, np.zeros(0, np.int64))] * 2, NAMES, multi_label=True)
    held_out = Photographs(nothing, 64, "reading", quiet=True)
    lines = []
    learnt = training(photographs(8, multi_label=True), held_out, epochs=1, report=lines.append)
    learnt.run()
    assert learnt.history[0].held_out_loss > 0
    assert learnt.history[0].held_out_score is None
    assert lines[0].endswith(f"held out: loss {learnt.history[0].held_out_loss:.3f}")
    again = training(photographs(8, multi_label=True), held_out, epochs=1)
    again.restore(learnt.state())
    assert again.history == learnt.history


# The running mean


def states_after_steps(learnt):
    """The states after each step, filled while it runs."""
    states, step = [], learnt._step

    def watched(batch):
        loss = step(batch)
        states.append(state_of(learnt.network))
        return loss

    learnt._step = watched
    return states


@pytest.mark.parametrize(
    ("average", "weights"),
    [
        (0.99, [1 / 4, 1 / 4, 1 / 4, 1 / 4]),  # a plain mean while steps are few
        (0.5, [1 / 8, 1 / 8, 1 / 4, 1 / 2]),
    ],
)
def test_the_network_kept_is_the_mean_of_its_steps(training, photographs, average, weights):
    learnt = training(photographs(8), average=average)
    states = states_after_steps(learnt)
    learnt.run()
    assert len(states) == 4
    for name, value in learnt.network.state_dict().items():
        if value.is_floating_point():
            mean = sum(weight * state[name].double() for weight, state in zip(weights, states, strict=True))
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(value, states[-1][name])


def test_without_averaging_the_last_step_is_kept(training, photographs):
    learnt = training(photographs(8))
    states = states_after_steps(learnt)
    learnt.run()
    assert_same(learnt.network.state_dict(), states[-1])


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_scoring_changes_nothing_and_scores_what_would_be_kept(training, photographs, average):
    held_out = photographs(9, seed=1)
    learnt = training(photographs(8), held_out, epochs=1, average=average)
    states = states_after_steps(learnt)
    learnt._epoch()
    # Scored at its end, the network goes on from the last step.
    before, averaged = states[-1], learnt._averaged and state_of(learnt._averaged.module)
    assert_same(learnt.network.state_dict(), before)
    with learnt._kept():
        scores = learnt._score()
    assert_same(learnt.network.state_dict(), before)
    kept = training(photographs(8)).network
    kept.load_state_dict(averaged if average else before)
    logits, targets = one_view(kept.eval(), held_out)
    assert scores[0] == float(classification_loss(logits, targets))
    assert scores == (learnt.history[0].held_out_loss, learnt.history[0].held_out_score, None)


def test_one_view_is_the_network_on_each_centre(settled, photographs):
    network, kept = settled(), photographs(5)
    logits, targets = one_view(network, kept, batch=2)
    assert targets.tolist() == kept.images.labels.tolist()
    with torch.no_grad():
        slow = torch.cat([network(normalised(batch.images)) for batch in kept.centres("any", 1)])
    torch.testing.assert_close(logits, slow, rtol=1e-4, atol=1e-4)


# Rates


def test_the_rate_along_a_cosine_after_a_warmup(training):
    learnt = training(epochs=10, rate=0.2, warmup=2.0)
    assert learnt._rate_at(0.0) == pytest.approx(0.2 * 0.01)
    assert learnt._rate_at(0.98) == pytest.approx(0.2 * 0.5 * 0.5 * (1 + math.cos(math.pi * 0.098)))
    assert learnt._rate_at(5.0) == pytest.approx(0.1)
    assert learnt._rate_at(10.0) == pytest.approx(0.0)
    assert training(epochs=10, rate=0.2, warmup=0.0)._rate_at(0.0) == pytest.approx(0.2)


def test_the_rate_in_steps(training):
    learnt = training(epochs=20, rate=0.2, schedule="steps", warmup=0.0)
    rates = [learnt._rate_at(progress) for progress in (0.0, 11.99, 12.0, 16.99, 17.0, 19.9)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_the_rate_at_plateaus(training, photographs):
    learnt = training(held_out=photographs(6, seed=1), rate=0.2, schedule="plateau", patience=2, warmup=0.0)
    rates = []
    for number, loss in enumerate([3.0, 2.0, 2.0, 2.5, 1.0, 1.0, 1.0], start=1):
        rates.append(learnt._rate_at(number - 1))
        learnt.history.append(Epoch(number, 64, 0.2, 1.0, loss, 0.5))
    rates.append(learnt._rate_at(7))
    assert rates == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.02, 0.02, 0.02, 0.002])


@pytest.mark.parametrize(
    ("losses", "patience", "drops"),
    [
        ([], 3, 0),
        ([5, 4, 3, 3, 3], 3, 0),
        ([5, 4, 3, 3, 3, 3], 3, 1),
        ([5, 4, 3, 3, 3, 3, 4, 4, 4], 3, 2),  # waiting starts anew
        ([5, 4, 3, 4, 4, 2, 3, 3, 1], 3, 0),
        ([1, 2, 0.5, 2], 1, 2),
    ],
)
def test_drops_at_plateaus(losses, patience, drops):
    assert drops_at_plateaus(losses, patience) == drops


def test_steps_are_made_at_their_rates_and_epochs_tell_the_highest(training, photographs):
    learnt, rates = training(photographs(8), rate=0.05, epochs=2), []
    step = learnt._step

    def watched(batch):
        rates.append([group["lr"] for group in learnt.optimizer.param_groups])
        return step(batch)

    learnt._step = watched
    learnt.run()
    expected = [learnt._rate_at(progress) for progress in (0, 0.5, 1, 1.5)]
    assert rates == [[rate] * 4 for rate in expected]
    assert [epoch.rate for epoch in learnt.history] == [max(expected[:2]), max(expected[2:])]


def test_the_first_rate_depends_on_where_the_network_starts(training, settled, photographs):
    assert training().rate == 0.1
    assert training(optimizer="adamw").rate == pytest.approx(0.002)
    network = SPPClassifier(NAMES, weights=settled().convolutions.state_dict())
    options = LearnOptions(sizes=(64,), mixed=False)
    assert Training(network, photographs(6), None, options, Augmentation("paper"), print).rate == 0.1
    network.new_layers = False  # as of an AlexNet
    assert Training(network, photographs(6), None, options, Augmentation("paper"), print).rate == 0.01
    assert training(rate=0.3).rate == 0.3


def test_pretrained_convolutions_take_small_steps(settled, photographs):
    network = SPPClassifier(NAMES, weights=settled().convolutions.state_dict())
    options = LearnOptions(sizes=(64,), mixed=False, batch=6, epochs=1, rate=0.2, warmup=0.0)
    learnt = Training(network, photographs(6), None, options, Augmentation("paper"), lambda line: None)
    learnt.run()
    rates = {id(p): group["lr"] for group in learnt.optimizer.param_groups for p in group["params"]}
    assert {round(rates[id(p)], 9) for p in network.convolutions.parameters()} == {0.006}
    assert {rates[id(p)] for p in network.layers.parameters()} == {0.2}
    assert len(rates) == len(list(network.parameters()))


def test_decay_is_of_weights_alone(training):
    learnt = training(weight_decay=0.1)
    decayed, others = [learnt.optimizer.param_groups[start::2] for start in (0, 1)]
    assert {group["weight_decay"] for group in decayed} == {0.1}
    assert {group["weight_decay"] for group in others} == {0.0}
    assert {parameter.ndim for group in decayed for parameter in group["params"]} == {2, 4}
    assert {parameter.ndim for group in others for parameter in group["params"]} == {1}
    found = [id(parameter) for group in decayed + others for parameter in group["params"]]
    assert sorted(found) == sorted(map(id, learnt.network.parameters()))


# Losses


def test_the_loss_of_one_label_by_hand():
    logits = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 5.0]], dtype=torch.float64)
    targets = torch.tensor([1, 0])
    logs = [[value - math.log(sum(map(math.exp, row))) for value in row] for row in logits.tolist()]
    assert float(classification_loss(logits, targets)) == pytest.approx(-(logs[0][1] + logs[1][0]) / 2)
    # A share of 0.3 is dealt out evenly, so that the right class keeps 0.8.
    wanted = [[0.1, 0.8, 0.1], [0.8, 0.1, 0.1]]
    smooth = -(np.array(wanted) * np.array(logs)).sum() / 2
    assert float(classification_loss(logits, targets, 0.3)) == pytest.approx(smooth)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_several_labels_by_hand(smoothing):
    logits = torch.tensor([[1.0, -2.0, 30.0], [0.5, 0.0, -3.0]], dtype=torch.float64)
    targets = torch.tensor([[1, 0, -1], [-1, 1, 0]], dtype=torch.int8)
    total = 0.0
    for value, target in [(1.0, 1), (-2.0, 0), (0.0, 1), (-3.0, 0)]:
        probability = 1 / (1 + math.exp(-value))
        wanted = (1 - smoothing) * target + smoothing / 2
        total -= wanted * math.log(probability) + (1 - wanted) * math.log(1 - probability)
    assert float(classification_loss(logits, targets, smoothing)) == pytest.approx(total / 4)


def test_what_is_not_to_be_learnt_has_no_gradient():
    logits = torch.zeros(2, 2, requires_grad=True)
    classification_loss(logits, torch.tensor([[1, -1], [-1, -1]], dtype=torch.int8)).backward()
    assert logits.grad.tolist() == [[-0.5, 0.0], [0.0, 0.0]]
    assert float(classification_loss(torch.ones(1, 2), torch.tensor([[-1, -1]], dtype=torch.int8))) == 0


# What is refused


DIVERGED = r"training diverged in epoch \d: a rate of .* is too high \(--rate\)"


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_that_diverges_ends_in_one_clear_line(training, photographs, multi_label, average):
    held_out = photographs(6, seed=1, multi_label=multi_label)
    learnt = training(
        photographs(8, multi_label=multi_label), held_out, rate=1e6, epochs=20, warmup=0.0, average=average
    )
    kept = []
    with pytest.raises(InputError, match=DIVERGED):
        learnt.run(lambda: kept.append(1))
    # What has diverged is not kept.
    assert len(kept) == len(learnt.history) < 20
    assert all(math.isfinite(epoch.loss) and math.isfinite(epoch.held_out_loss) for epoch in learnt.history)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["layers.1.weight", "layers.2.running_var"])
def test_the_last_step_may_diverge_too(training, photographs, value, name):
    """Its own loss was still a number, and nothing is scored."""
    learnt = training(photographs(8), epochs=1, batch=8)  # a single step
    step = learnt._step

    def broken(batch):
        loss = step(batch)
        learnt.network.state_dict()[name].fill_(value)
        return loss

    learnt._step = broken
    with pytest.raises(InputError, match=DIVERGED):
        learnt.run()
    assert learnt.history == []


def test_weights_may_be_numbers_and_the_answers_none(training, photographs):
    learnt = training(photographs(8), photographs(6, seed=1), epochs=1, batch=8)
    step = learnt._step

    def huge(batch):
        loss = step(batch)
        with torch.no_grad():
            learnt.network.layers[-1].weight.fill_(3e38)
        return loss

    learnt._step = huge
    with pytest.raises(InputError, match=DIVERGED):
        learnt.run()
    assert learnt.history == []


def test_too_little_to_learn_from(training, photographs):
    with pytest.raises(InputError, match="training needs 2 or more readable photographs, not 1"):
        training(photographs(1))
    for held_out in (None, photographs(0)):
        with pytest.raises(InputError, match="'plateau' needs a held-out loss, and no photograph is held out"):
            training(held_out=held_out, schedule="plateau")
    none = training(held_out=photographs(0), epochs=1)
    none.run()
    assert none.history[0].held_out_loss is None
