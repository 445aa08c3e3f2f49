"""How the scripts speak: messages that can be read, outputs that fail, Ctrl-C at any time."""

import os
import signal
import subprocess
import sys

import pytest

import reproduce
from app.console import one_line, plain, stop_signals
from app.options import train, visualize
from app.options.arguments import number
from tests.scripts import ROOT, assert_one_line, command, run

LETTERS = 60_000 * "a"
PARSE = {
    "train.py": train.parse,
    "visualize.py": visualize.parse,
    "reproduce.py": reproduce.parser().parse_args,
}


def refused(capsys, script, *words):
    """The message of a command line that is refused."""
    with pytest.raises((ValueError, SystemExit)) as error:
        PARSE[script](list(words))
    if isinstance(error.value, ValueError):
        return one_line(error.value)
    assert error.value.code == 2
    return capsys.readouterr().err


def test_a_message_is_a_line_that_a_person_can_read():
    assert plain("two\nlines  and\ttabs") == "two lines and tabs"
    assert plain("a\x1b[31mred\udcff") == "a\\x1b[31mred\\udcff"
    assert plain("é ± 日本") == "é ± 日本"
    assert len(plain(LETTERS)) < 500
    assert len(plain("a b " * 60_000)) < 2500
    assert plain(f"{LETTERS}: no such file; try another").endswith("try another")
    error = OSError(2, "No such file", f"x\n{LETTERS}")
    assert one_line(error).startswith("x aaaa")
    assert one_line(error).endswith("No such file")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("train.py", ["--net", "--epochs", "--lr", "--mode", "--pixel-mean", "--nonsense"]),
        ("visualize.py", ["--unit", "--net", "--size", "--chains", "--sampler"]),
        ("reproduce.py", ["--seeds", "--device"]),
    ],
)
def test_what_a_user_sends_is_not_sent_back_as_a_whole(capsys, script, options):
    words = ["table1"] if script == "reproduce.py" else []
    for option in options:
        message = refused(capsys, script, *words, option, LETTERS)
        assert len(message) < 1000
        assert message.rstrip("\n").count("\n") == 0


@pytest.mark.parametrize("option", ["epochs", "lr", "data", "out", "resume", "mode", "weights"])
def test_two_dashes_are_no_value(capsys, option):
    assert f"--{option}: expected one argument" in refused(capsys, "train.py", f"--{option}=--")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("train.py", ["--data", "--weights", "--prepared", "--out", "--resume"]),
        ("visualize.py", ["--weights", "--out", "--resume"]),
        ("reproduce.py", ["--data", "--weights", "--out"]),
    ],
)
def test_names_of_files_are_not_empty(capsys, script, options):
    words = ["table1"] if script == "reproduce.py" else []
    for option in options:
        assert "must not be empty" in refused(capsys, script, *words, option, "")


def test_settings_of_a_file_are_held_to_their_options():
    parser = train.parser
    unset = {"limit": None, "skip_broken": False}
    good = {"lr": 0.1, "epochs": 3, "limit": None, "skip_broken": False, "pixel_mean": [1.0, 2, 3]}
    assert parser().checked(good, unset) == good
    assert parser().checked({"skip_broken": True, "seed": 0}, unset) == {
        "skip_broken": True,
        "seed": 0,
    }
    for name, value in [
        *(("epochs", value) for value in (0, 2.0, "2", None, False, True, [2], {"a": 1}, "--", "")),
        *(("lr", value) for value in ("0.1", -1, None, float("nan"), float("inf"), [])),
        *(("mode", value) for value in ("foo", None, 3, ["gg"])),
        *(("skip_broken", value) for value in (None, 1, 0, "yes", "")),
        *(("limit", value) for value in (1, False, "x")),
        *(("data", value) for value in ("", 3, ["/x"], "no/absolute/path")),
        *(("pixel_mean", value) for value in ([1], [], [1, 2], "images", ["1", "2", "3"])),
    ]:
        with pytest.raises(ValueError, match=name.replace("_", ".")):
            parser().checked({name: value}, unset)


def test_numbers():
    for text in ("1e400", "nan", "9" * 5000):
        with pytest.raises(Exception, match="is not a number"):
            number(float if text != "9" * 5000 else int)(text)


@pytest.mark.parametrize("buffered", ["", "1"])
def test_outputs_that_fail_end_no_work(tmp_path, buffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered, "PYTHONIOENCODING": "ascii"}
    quick = ["visualize.py", "--chains", 1, "--iterations", 12, "--out"]
    with open(os.devnull) as nothing_read:
        process = subprocess.Popen(
            command(*quick, tmp_path / "a"),
            stdin=nothing_read,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    process.stdout.close()  # as `| head -0` does
    assert process.wait(timeout=60) == 0
    assert (tmp_path / "a" / "diagnostics.json").exists()
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command("visualize.py", "--list-layers"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    assert result.returncode == 0
    assert result.stderr.startswith("visualize.py: warning: the output cannot be written: No space")
    assert len(result.stderr.splitlines()) == 1


def test_letters_that_a_terminal_does_not_have():
    code = "import app.console; print('0.85 ± 0.03')"
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert (result.stdout, result.stderr) == ("0.85 \\xb1 0.03\n", "")


@pytest.mark.parametrize("script", ["train.py", "visualize.py", "reproduce.py"])
def test_ctrl_c_while_loading(tmp_path, script):
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = run(script, *(["table1"] if script == "reproduce.py" else []), env=environment)
    assert result.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert result.stderr == f"{script}: error: interrupted\n"


def test_signals_that_were_ignored_stay_so():
    """As under nohup, which ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as received:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
        assert not received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_interrupts():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with pytest.raises(KeyboardInterrupt) as stop, stop_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert received == [signal.SIGHUP]
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.value.args == (signal.SIGTERM,)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number_, handler in before.items():
            signal.signal(number_, handler)


def test_warnings_as_errors(tmp_path):
    """Nothing is left open, and nothing warns."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    quick = ["--chains", 1, "--iterations", 24, "--threads", 1, "--out", tmp_path / "v"]
    result = run("visualize.py", *quick, env=environment)
    assert result.returncode == 0
    for word in ("Warning", "Traceback", "could not be drawn"):
        assert word not in result.stderr
    result = run("visualize.py", "--resume", tmp_path / "v", env=environment)
    assert (result.returncode, result.stderr) == (0, "")


def test_errors_of_reproduce_are_one_line(tmp_path):
    assert_one_line(run("reproduce.py", "table1", "--out", ""), 2, "must not be empty")
    missing = tmp_path / "none"
    assert_one_line(
        run("reproduce.py", "table1", "--data", missing), 2, f"no such folder: {missing}"
    )
