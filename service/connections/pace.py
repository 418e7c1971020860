"""How slow a transfer may be: it has a credit of seconds, which time uses up and bytes restore."""


class Pace:
    """credit ← min(S, credit − Δt + bytes / R), from credit = S on; a transfer with credit < 0 is too slow.

    S seconds, R bytes a second; R = 0 is no bound. A transfer at rate r < R ends after S / (1 − r/R) seconds, one that
    stalls after S; what it moved before, however fast, buys no more than S. Time in which it waits for this side is not
    charged: see `wait`.
    """

    def __init__(self, seconds: float, rate: float, now: float):
        self._seconds, self._rate = seconds, rate
        self._credit, self._at, self._moved = seconds, now, 0

    def move(self, now: float, moved: int) -> bool:
        """Charge the time since the last call. moved: bytes so far. Returns whether the transfer may go on."""
        if self._rate:
            earned = (moved - self._moved) / self._rate
            self._credit = min(self._seconds, self._credit - (now - self._at) + earned)
        self.wait(now, moved)
        return self._credit >= 0

    def wait(self, now: float, moved: int) -> None:
        """Let the time since the last call pass without a charge."""
        self._at, self._moved = now, moved
