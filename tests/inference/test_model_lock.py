"""A predictor in a process that did not build it."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from mm_ovseg.errors import ProcessError
from mm_ovseg.inference.explanation import explain
from mm_ovseg.inference.scene import ScenePredictor
from tests.patience import PATIENCE


def answers(connection, calls):
    """Send the error of each call, in a child."""
    for call in calls:
        try:
            connection.send(call())
        except ProcessError as error:
            connection.send(str(error))


def test_a_fork_is_refused_instead_of_hanging(make_cfg, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # with one, a child needs none of PyTorch's threads
    try:
        scenes = ScenePredictor(make_cfg(), ["city", "road"])
        predictor, (rgb, sar) = scenes.predictor, np.full((2, 300, 300, 3), 7, np.uint8)
        expected, pair = predictor(rgb, sar), predictor.encode(rgb, sar)
        calls = [
            lambda: predictor(rgb, sar),
            lambda: predictor.encode(rgb, sar),
            lambda: predictor.ask(pair),
            lambda: predictor.batch([(rgb, sar)]),
            lambda: predictor.set_vocabulary(["sea", "sky"]),
            lambda: explain(predictor, rgb, sar),
            lambda: scenes.segment("rgb.tif", None, tmp_path / "map.tif"),
            lambda: scenes.set_vocabulary(["sea", "sky"]),
        ]
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        with predictor.lock:  # as another thread may hold it
            child = context.Process(target=answers, args=(sender, calls), daemon=True)
            child.start()
        for _ in calls:
            assert receiver.poll(PATIENCE), "it hangs"
            assert "build a predictor in each process" in receiver.recv()
        child.join()
        np.testing.assert_array_equal(predictor(rgb, sar).class_map, expected.class_map)
    finally:
        torch.set_num_threads(threads)


def test_a_predictor_is_not_sent_to_another_process(make_cfg):
    scenes = ScenePredictor(make_cfg(), ["city", "road"])
    for predictor in (scenes, scenes.predictor):
        with pytest.raises(ProcessError, match="cannot be copied or sent to another process; build one there"):
            pickle.dumps(predictor)
