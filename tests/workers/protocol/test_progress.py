"""Progress records: thinned out, never waited for, and believed only when sensible."""

import os
import struct
from collections.abc import Iterator

import pytest

from workers.protocol.progress import Progress, ProgressReader, ProgressWriter, Stage


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_newest_record_is_kept(pipe: tuple[int, int]) -> None:
    reader, writer = ProgressReader(pipe[0]), ProgressWriter(pipe[1])
    assert reader.latest() is None
    writer.report(Stage.LOADING_MODEL)
    writer.report(Stage.EVALUATING, 1, 10)
    assert reader.latest() == Progress(Stage.EVALUATING, 1, 10)
    assert reader.latest() == Progress(Stage.EVALUATING, 1, 10)


def test_last_step_of_a_stage_is_never_thinned_out(pipe: tuple[int, int]) -> None:
    reader, writer = ProgressReader(pipe[0]), ProgressWriter(pipe[1])
    for done in range(1, 1001):
        writer.report(Stage.EVALUATING, done, 1000)
    written = len(os.read(pipe[0], 1 << 16)) // 17
    assert written < 100
    writer.report(Stage.EVALUATING, 1000, 1000)
    assert reader.latest() == Progress(Stage.EVALUATING, 1000, 1000)


def test_full_pipe_never_blocks_the_writer(pipe: tuple[int, int]) -> None:
    reader, writer = ProgressReader(pipe[0]), ProgressWriter(pipe[1])
    for _ in range(10_000):
        writer.report(Stage.EVALUATING, 5, 5)
    assert reader.latest() == Progress(Stage.EVALUATING, 5, 5)
    writer.report(Stage.REPORTING)
    assert reader.latest() == Progress(Stage.REPORTING)


def test_closed_reader_does_not_disturb_the_writer() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    os.close(reading)
    ProgressWriter(writing).report(Stage.EVALUATING)
    os.close(writing)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        struct.pack("<BQQ", 0, 0, 0),
        struct.pack("<BQQ", 200, 0, 0),
        struct.pack("<BQQ", 4, 9, 3),
        b"\xff" * 1000,
    ],
)
def test_nonsense_is_not_believed(pipe: tuple[int, int], content: bytes) -> None:
    reader = ProgressReader(pipe[0])
    os.write(pipe[1], content)
    assert reader.latest() is None


def test_split_record_is_put_together(pipe: tuple[int, int]) -> None:
    reader = ProgressReader(pipe[0])
    record = struct.pack("<BQQ", Stage.EVALUATING, 3, 7)
    os.write(pipe[1], record[:5])
    assert reader.latest() is None
    os.write(pipe[1], record[5:])
    assert reader.latest() == Progress(Stage.EVALUATING, 3, 7)


def test_labels_are_what_clients_see() -> None:
    assert Stage.LOADING_MODEL.label == "loading_model"
