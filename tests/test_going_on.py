"""How commands end that are stopped and go on later."""

import os
import signal

import pytest

from jitune.commands import going_on
from jitune.types import UserError


class Stopped(RuntimeError):
    """What work raises that takes signals itself."""


@pytest.fixture(autouse=True)
def handler():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def raises(error):
    raise error


def terminated(then=None):
    """SIGTERM from without; then: what the work makes of it."""
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    except KeyboardInterrupt:
        raise then or KeyboardInterrupt from None


@pytest.mark.core
@pytest.mark.parametrize("work, code, word", [
    (terminated, 143, "stopped"), (lambda: terminated(UserError("a worker is gone")), 143, "stopped"),
    (lambda: raises(KeyboardInterrupt), 130, "interrupted"), (lambda: raises(Stopped), 143, "stopped"),
])  # fmt: skip
def test_what_was_stopped_is_said_and_has_its_exit_code(work, code, word, capsys):
    assert going_on.run(work, stops=(Stopped,)) == (None, code)
    assert capsys.readouterr().err == f"jitune: {word}; the same command goes on from here\n"


@pytest.mark.core
def test_what_is_done_or_wrong_is_no_stop():
    assert going_on.run(lambda: "folder") == ("folder", 0)
    for error in (UserError("no such file"), Stopped("nobody said so")):
        with pytest.raises(type(error)):
            going_on.run(lambda error=error: raises(error))
