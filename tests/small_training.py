"""Trainings in double precision, where several processes differ from one in the last digits only."""

import torch
from sppnet.detector.classification.train import Training, classification_loss
from sppnet.detector.descent.epochs import Epoch, EpochRunner
from torch import nn
from torch.nn import functional

ROWS = 7


class Layers(nn.Module):
    """Every layer that looks at a batch as a whole, in each form."""

    def __init__(self):
        super().__init__()
        self.convolution, self.maps = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.still = nn.BatchNorm2d(4)
        self.rows, self.out = nn.BatchNorm1d(16, affine=False, momentum=None), nn.Linear(16, 2)
        self.dropout = nn.Dropout(0.3)

    def train(self, mode=True):
        super().train(mode)
        self.still.eval()
        return self

    def forward(self, images):
        maps = self.dropout(self.still(self.maps(self.convolution(images))).relu())
        rows = self.rows(functional.adaptive_max_pool2d(maps, 2).flatten(1))
        return self.out(functional.dropout(rows, 0.5, self.training))


class SmallTraining(EpochRunner):
    """Two steps on one batch, whose rows do not divide evenly."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Layers().double()
        super().__init__(network, print, mixed=False)
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        # A mean that is large beside the deviation.
        self.images = 100 + torch.randn(ROWS, 3, 8, 8, dtype=torch.float64, generator=generator)
        self.targets = torch.randn(ROWS, 2, dtype=torch.float64, generator=generator)

    def _finished(self):
        return bool(self.history)

    def _smallest_batch(self):
        return ROWS

    def _learn(self):
        losses = []
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network.train()
            for _ in range(2):
                images, targets = self._own(self.images), self._own(self.targets)
                with self._as_one(ROWS):
                    loss = (self.learner(images) - targets).square().mean()
                losses.append(self._backward(loss, len(images) / ROWS))
                self.optimizer.step()
        return 0.1, losses

    def _judge(self, rate, losses):
        self.history.append(Epoch(1, None, rate, float(losses[0]), float(losses[1])))

    def _result(self):
        return None

    def _more(self):
        return {}

    def _restore_more(self, arrays):
        pass


class DoubleTraining(Training):
    """A classifier's."""

    def _images(self, images):
        return super()._images(images).double()

    def _loss(self, images, batch):
        return classification_loss(self.learner(images), batch.targets, self.options.smoothing)

    def _score(self):
        with torch.no_grad():
            batch = next(self.held_out.centres("any", 100))
            logits = self.network(self._images(batch.images))
        return float(classification_loss(logits, batch.targets)), 0.0, None
