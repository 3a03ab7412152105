from __future__ import annotations

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from app.infra.supervisor import PartFailedError, RestartPolicy, StartError, Supervisor
from tests.embedded.support import (
    OBEDIENT,
    PREFORK,
    QUICK,
    STUBBORN,
    eventually,
    is_running,
    part,
    python,
    running,
)


def _has(lines: list[str], line: str, times: int) -> bool:
    return lines.count(line) == times


CRASHING = "import sys; print('what went wrong'); sys.exit(7)"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.touch()
    return path


@pytest.fixture
def lines() -> list[str]:
    return []


class TestStop:
    def test_higher_stages_end_before_lower_ones(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(
                *(
                    part(tmp_path, name, python(OBEDIENT, name, str(notes)), stage=stage)
                    for name, stage in (("postgres", 0), ("api", 3), ("valkey", 1), ("worker", 2))
                )
            )
        assert notes.read_text().split() == ["api", "worker", "valkey", "postgres"]

    def test_sigterm_reaches_the_parent_and_not_its_pool(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(part(tmp_path, "worker", python(PREFORK, "worker", str(notes))))
        assert notes.read_text().splitlines() == ["worker"]

    def test_a_part_that_will_not_end_is_killed_after_its_grace(self, tmp_path: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(part(tmp_path, "mule", python(STUBBORN), grace_seconds=0.05))
            pid = supervisor.pid("mule")
        assert pid is not None
        assert not is_running(pid)

    def test_hurry_takes_the_grace_away(self, tmp_path: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(part(tmp_path, "mule", python(STUBBORN), grace_seconds=3600.0))
            supervisor.ask_stop()
            supervisor.ask_hurry()
            supervisor.wait()
        assert supervisor.failure is None

    def test_a_frozen_part_is_ended_too(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(part(tmp_path, "ice", python(OBEDIENT, "ice", str(notes))))
            pid = supervisor.pid("ice")
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
        assert notes.read_text().split() == ["ice"]

    def test_what_is_to_follow_follows_the_last_part(self, tmp_path: Path, notes: Path) -> None:
        seen: list[str] = []
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.afterwards(lambda: seen.append(notes.read_text()))
            supervisor.start(part(tmp_path, "a", python(OBEDIENT, "a", str(notes))))
        assert seen == ["a\n"]

    def test_a_program_that_forgets_to_stop_it_ends_all_the_same(
        self, tmp_path: Path, notes: Path
    ) -> None:
        script = f"""
from pathlib import Path
from app.infra.supervisor import Supervisor
from tests.embedded.support import OBEDIENT, part, python
directory = Path({str(tmp_path)!r})
supervisor = Supervisor(directory / "data")
supervisor.start(part(directory, "api", python(OBEDIENT, "api", {str(notes)!r})))
"""
        with running(script) as program:
            assert program.wait() == 0
        assert notes.read_text().split() == ["api"]


class TestCrash:
    def test_a_crashed_part_comes_back(self, tmp_path: Path, notes: Path, lines: list[str]) -> None:
        with Supervisor(tmp_path / "data", announce=lines.append, restart=QUICK) as supervisor:
            supervisor.start(part(tmp_path, "api", python(OBEDIENT, "api", str(notes))))
            first = supervisor.pid("api")
            assert first is not None
            os.kill(first, signal.SIGKILL)
            eventually(lambda: lines.count("api is ready") == 2)
            assert supervisor.pid("api") not in (None, first)
        assert "api ended (killed by SIGKILL); starting it again" in lines

    def test_a_pool_does_not_outlive_its_crashed_parent(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data", restart=QUICK) as supervisor:
            supervisor.start(part(tmp_path, "worker", python(PREFORK, "worker", str(notes))))
            parent = supervisor.pid("worker")
            assert parent is not None
            log = (supervisor.dir.logs / "worker.log").read_text()
            child = int(log.split("up ")[1].split()[0])
            assert is_running(child)
            os.kill(parent, signal.SIGKILL)
            eventually(lambda: not is_running(child))

    def test_health_begins_a_new_row_of_crashes(
        self, tmp_path: Path, notes: Path, lines: list[str]
    ) -> None:
        policy = RestartPolicy(first_pause=0.01, give_up_after=2, settled_seconds=0.0)
        with Supervisor(tmp_path / "data", announce=lines.append, restart=policy) as supervisor:
            supervisor.start(part(tmp_path, "api", python(OBEDIENT, "api", str(notes))))
            for times in (2, 3, 4):
                pid = supervisor.pid("api")
                assert pid is not None
                eventually(lambda: supervisor._children["api"].crashes == 0)
                os.kill(pid, signal.SIGKILL)
                eventually(partial(_has, lines, "api is ready", times))

    @pytest.mark.parametrize(
        ("crashes", "seconds"), [(1, 0.2), (2, 0.4), (5, 3.2), (6, 5.0), (5000, 5.0)]
    )
    def test_each_pause_is_twice_the_last_up_to_a_limit(self, crashes: int, seconds: float) -> None:
        assert RestartPolicy().pause(crashes) == pytest.approx(seconds)

    def test_one_that_keeps_crashing_ends_everything_with_its_last_lines(
        self, tmp_path: Path, notes: Path
    ) -> None:
        supervisor = Supervisor(tmp_path / "data", restart=QUICK)
        supervisor.start(part(tmp_path, "api", python(OBEDIENT, "api", str(notes))))
        with pytest.raises(PartFailedError) as caught:
            supervisor.start(part(tmp_path, "sweeper", python(CRASHING)))
        assert str(caught.value).startswith("sweeper ended 3 times in a row (exit status 7).")
        assert str(caught.value).endswith("  sweeper | what went wrong")
        assert notes.read_text().split() == ["api"], "the others were stopped properly"

    def test_whoever_waits_is_told(self, tmp_path: Path, notes: Path) -> None:
        supervisor = Supervisor(tmp_path / "data", restart=QUICK)
        log = supervisor.dir.logs / "api.log"
        once_up = f"import pathlib; assert pathlib.Path({str(log)!r}).read_text().count('api') == 1"
        script = f"{once_up}{OBEDIENT}"
        supervisor.start(part(tmp_path, "api", python(script, "api", str(notes))))
        pid = supervisor.pid("api")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PartFailedError, match=r"(?s)api ended 3 times.*AssertionError"):
            supervisor.wait()

    def test_one_that_is_not_essential_is_done_without(
        self, tmp_path: Path, notes: Path, lines: list[str]
    ) -> None:
        with Supervisor(tmp_path / "data", announce=lines.append, restart=QUICK) as supervisor:
            supervisor.start(
                part(tmp_path, "valkey", python(CRASHING), essential=False),
                part(tmp_path, "api", python(OBEDIENT, "api", str(notes))),
            )
            assert supervisor.pid("api") is not None
        assert supervisor.failure is None
        word = "valkey keeps ending (exit status 7); going on without it, trying again"
        assert lines.count(word) == 1

    def test_one_that_never_becomes_ready_is_given_up(self, tmp_path: Path) -> None:
        supervisor = Supervisor(tmp_path / "data")
        with pytest.raises(PartFailedError, match=r"mule was not ready within 0.05 s"):
            supervisor.start(
                part(
                    tmp_path,
                    "mule",
                    python(STUBBORN),
                    ready=lambda _process: False,
                    ready_seconds=0.05,
                    grace_seconds=0.05,
                )
            )

    def test_a_program_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        supervisor = Supervisor(tmp_path / "data", restart=QUICK)
        with pytest.raises(PartFailedError, match=r"/no/such/program: No such file"):
            supervisor.start(part(tmp_path, "ghost", ("/no/such/program",)))


class TestOnce:
    def test_returns_when_it_has_ended_well(self, tmp_path: Path, notes: Path) -> None:
        script = f"open({str(notes)!r}, 'a').write('migrated')"
        with Supervisor(tmp_path / "data") as supervisor:
            supervisor.start(part(tmp_path, "migrate", python(script), once=True))
            assert notes.read_text() == "migrated"

    def test_is_not_tried_again(self, tmp_path: Path, notes: Path) -> None:
        script = f"import sys; open({str(notes)!r}, 'a').write('x'); sys.exit('no such table')"
        supervisor = Supervisor(tmp_path / "data", restart=QUICK)
        with pytest.raises(PartFailedError, match=r"(?s)migrate ended \(exit.*no such table"):
            supervisor.start(part(tmp_path, "migrate", python(script), once=True))
        assert notes.read_text() == "x"


class TestHold:
    def test_a_held_part_stays_down_until_resumed(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data", restart=QUICK) as supervisor:
            supervisor.start(
                part(tmp_path, "valkey", python(OBEDIENT, "valkey", str(notes))),
                part(tmp_path, "api", python(OBEDIENT, "api", str(notes))),
            )
            supervisor.hold("valkey", signal.SIGKILL)
            api = supervisor.pid("api")
            assert api is not None
            os.kill(api, signal.SIGKILL)  # what crashes does come back, in the same rounds
            eventually(lambda: supervisor.pid("api") not in (None, api))
            assert supervisor.pid("valkey") is None
            supervisor.resume("valkey")
            assert supervisor.pid("valkey") is not None


class TestDataDir:
    def test_a_second_instance_is_refused_and_told_who_has_it(self, tmp_path: Path) -> None:
        with (
            Supervisor(tmp_path / "data"),
            pytest.raises(StartError, match=f"in use by process {os.getpid()}"),
        ):
            Supervisor(tmp_path / "data")
        Supervisor(tmp_path / "data").stop()

    def test_a_directory_that_can_not_be_made_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StartError, match=r"file.* can't be used by .*: Not a directory"):
            Supervisor(tmp_path / "file" / "data")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_directory_that_may_not_be_written_is_named(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(StartError, match=r"can't be used by .*: Permission denied"):
            Supervisor(tmp_path / "data")

    def test_what_a_killed_instance_left_is_ended(self, tmp_path: Path, notes: Path) -> None:
        # The kernel's help is refused here (SIGCONT ends nobody), as where there is none.
        script = f"""
import signal, sys
from pathlib import Path
from app.infra.supervisor import Supervisor
from tests.embedded.support import OBEDIENT, part, python
directory = Path({str(tmp_path)!r})
supervisor = Supervisor(directory / "data")
argv = python(OBEDIENT, "left", {str(notes)!r})
supervisor.start(part(directory, "left", argv, death_signal=signal.SIGCONT))
print(supervisor.pid("left"), flush=True)
signal.pause()
"""
        with running(script) as instance:
            assert instance.stdout is not None
            left = int(instance.stdout.readline())
        assert is_running(left)
        Supervisor(tmp_path / "data").stop()
        assert not is_running(left)
        assert notes.read_text().split() == ["left"], "it was asked first"

    def test_a_stranger_with_a_noted_id_is_let_alone(self, tmp_path: Path) -> None:
        Supervisor(tmp_path / "data").stop()
        with subprocess.Popen(python(STUBBORN), stdout=subprocess.DEVNULL) as stranger:
            note = {"pid": stranger.pid, "created": 1.0, "stop_signal": 9, "grace_seconds": 0}
            (tmp_path / "data" / "pids" / "api.json").write_text(json.dumps(note))
            Supervisor(tmp_path / "data").stop()
            assert stranger.poll() is None
            stranger.kill()

    def test_a_long_log_begins_anew_and_its_past_is_kept(self, tmp_path: Path, notes: Path) -> None:
        with Supervisor(tmp_path / "data") as supervisor:
            log = supervisor.dir.logs / "api.log"
            with log.open("wb") as old:
                old.truncate(17 * 1024 * 1024)
            supervisor.start(part(tmp_path, "api", python(OBEDIENT, "api", str(notes))))
        assert log.stat().st_size < 1000
        assert log.with_suffix(".log.1").stat().st_size > 16 * 1024 * 1024
