import io

import pytest


@pytest.fixture
def bars(monkeypatch):
    """What a terminal would show of progress bars: `bars.getvalue()`."""
    from mura_tf import terminal

    shown = io.StringIO()
    console = terminal.Output(file=shown, force_terminal=True, force_interactive=True, width=100)
    monkeypatch.setattr(terminal, "_ERRORS", console)
    return shown
