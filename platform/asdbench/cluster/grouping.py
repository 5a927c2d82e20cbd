"""How many processes should continue a training when GPUs stand idle; knows nothing of Ray.

Near the end of a run or sweep fewer trainings are left than there are GPUs. A training that has long to go
can then move to a data-parallel group: it stops at a checkpoint, and the group resumes from there. That pays
if the group saves more than it takes to start.
"""

from dataclasses import dataclass

STARTUP_S = 30.0
"""What moving a training to a group takes besides its steps: processes start, and end after the last step."""

EFFICIENCY = 0.8
"""What each further process adds to the speed, relative to the first."""

_LEAST_SAVING_S = 60.0
_LEAST_SHARE_SAVED = 0.1


@dataclass(frozen=True)
class GroupDecision:
    """How many processes continue a training.

    Attributes
    ----------
    size : number of processes; 1 to leave the training as it is
    remaining_s : time that it has to go on one process
    idle : GPUs that stand idle besides the one that it has
    saved_s : how much sooner ``size`` processes finish, start included; 0 for one process
    """

    size: int
    remaining_s: float
    idle: int
    saved_s: float

    def describe(self, label: str) -> str:
        """Return the decision as a sentence for the user.

        >>> print(decide(720.0, 3).describe("fan my-system seed 0"))
        fan my-system seed 0 has about 12 min to go and 3 GPUs are idle: it continues on 4 GPUs ...
        """
        idle = "1 GPU is idle" if self.idle == 1 else f"{self.idle} GPUs are idle"
        begin = f"{label} has {_about(self.remaining_s)} to go and {idle}: "
        if self.size == 1:
            return f"{begin}it stays on 1 GPU, since a group would not finish much sooner"
        return f"{begin}it continues on {self.size} GPUs from its checkpoint, {_about(self.saved_s)} sooner"


def decide(
    remaining_s: float, idle: int, *, startup_s: float = STARTUP_S, efficiency: float = EFFICIENCY
) -> GroupDecision:
    """Return how many processes should continue a training.

    A group of n takes ``startup_s + remaining_s / (1 + (n - 1) * efficiency)``. It has to save a minute and a
    tenth of the remaining time, because times are estimates and each move costs a restart. Idle GPUs are
    free, so that a group takes all of them.

    Parameters
    ----------
    remaining_s : time that the training has to go on one process, from measured step times
    idle : GPUs that stand idle besides the one that it has
    startup_s : what the move takes besides the steps
    efficiency : what each further process adds to the speed, relative to the first: between 0 and 1

    Returns
    -------
    GroupDecision

    Examples
    --------
    >>> decide(3600.0, 3).size
    4
    >>> decide(90.0, 3).size
    1
    """
    size = 1 + max(idle, 0)
    group_s = startup_s + remaining_s / (1 + (size - 1) * efficiency)
    saved_s = remaining_s - group_s
    if saved_s < max(_LEAST_SAVING_S, _LEAST_SHARE_SAVED * remaining_s):
        return GroupDecision(1, remaining_s, max(idle, 0), 0.0)
    return GroupDecision(size, remaining_s, idle, saved_s)


def group_size(
    remaining_s: float, idle: int, *, startup_s: float = STARTUP_S, efficiency: float = EFFICIENCY
) -> int:
    """Return the number of processes that should continue a training; 1 if a group does not pay.

    The arguments are those of :func:`decide`.

    >>> group_size(720.0, 3)
    4
    """
    return decide(remaining_s, idle, startup_s=startup_s, efficiency=efficiency).size


def _about(seconds: float) -> str:
    """Return a time in words: in minutes, or in hours from two of them on."""
    if seconds < 90:
        return "about 1 min"
    if seconds < 7200:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"
