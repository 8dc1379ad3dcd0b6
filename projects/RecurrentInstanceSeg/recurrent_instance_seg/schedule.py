"""What changes during training: how many objects are asked for, and which losses count.

The state lives in buffers and is advanced in the model's training forward, so that it survives a
resume, works in any trainer and, as the loss is averaged over the processes, agrees in all of them.
"""

import torch
from detectron2.utils import comm
from torch import Tensor, distributed, nn

MOMENTUM = 0.95  # of the running loss


class Schedule(nn.Module):
    """Curriculum on the number of objects, and onsets of losses, driven by the running mask loss.

    Source: Salvador et al. 2018, section 3.3 (objects are added when the loss no longer falls);
    Romera-Paredes & Torr 2016 (short sequences first).
    Deviates: also when the loss is low enough; per iteration, not per epoch.

    Args:
        max_objects (int): where the curriculum ends.
        start (int): objects at first; 0: no curriculum.
        threshold (float): one object more when the running mask loss is below.
        patience (int): iterations without a new best running loss, after which one object more is
            asked for, and losses that wait for their onset start.
        min_iterations (int): between two additions.
    """

    iteration: Tensor
    objects: Tensor
    since_added: Tensor
    since_best: Tensor
    stalled: Tensor
    running: Tensor
    best: Tensor

    def __init__(
        self,
        max_objects: int,
        *,
        start: int = 0,
        threshold: float = 0.0,
        patience: int = 1000,
        min_iterations: int = 1,
    ):
        super().__init__()
        self.max_objects = max_objects
        self.threshold = threshold
        self.patience = patience
        self.min_iterations = min_iterations
        first = min(start, max_objects) if start else max_objects
        self.register_buffer("iteration", torch.tensor(0))
        self.register_buffer("objects", torch.tensor(first))
        self.register_buffer("since_added", torch.tensor(0))
        self.register_buffer("since_best", torch.tensor(0))
        self.register_buffer("stalled", torch.tensor(False))
        self.register_buffer("running", torch.tensor(1.0))
        self.register_buffer("best", torch.tensor(1.0))

    def limit(self) -> int:
        """Objects that are asked for at most."""
        return int(self.objects)

    def started(self, after: int) -> bool:
        """Whether a loss counts.

        Args:
            after (int): iterations after which it does, or earlier if the mask loss has stalled.
        """
        return int(self.iteration) >= after or bool(self.stalled)

    @torch.no_grad()
    def advance(self, loss: Tensor) -> None:
        """Account for one iteration.

        Args:
            loss (Tensor): scalar, this process's mask loss, unweighted; without an object in the
                batch it must be left out by passing the running loss itself.
        """
        loss = loss.detach().clone().float()
        if comm.get_world_size() > 1:
            distributed.all_reduce(loss)
            loss /= comm.get_world_size()
        self.iteration += 1
        self.running.lerp_(loss.to(self.running), 1 - MOMENTUM)
        self.since_added += 1
        if self.running < self.best:
            self.best.copy_(self.running)
            self.since_best.zero_()
        else:
            self.since_best += 1
        stalls = self.since_best >= self.patience
        self.stalled |= stalls
        wanted = stalls or self.running < self.threshold
        possible = self.objects < self.max_objects and self.since_added >= self.min_iterations
        if wanted and possible:
            self.objects += 1
            self.since_added.zero_()
            self.since_best.zero_()
            self.best.copy_(self.running)
