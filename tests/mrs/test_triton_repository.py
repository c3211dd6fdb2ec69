"""Model repositories for NVIDIA Triton Inference Server: what is written, and how a double of the server runs it."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format

import mrs
from mrs.building import inference_server as triton_repository
from mrs.building.inference_server import add_version, config_text, copied
from mrs.runtime import session
from mrs.runtime.errors import BackendError, InputError, PlanError
from mrs.runtime.serving.inference_server import threads_of
from mrs.runtime.system import machine
from tests.runtime.triton_double import Code, InferenceRequest, Logger, Tensor, TritonModelException, serving

FILES = {"config.pbtxt", "1/model.py", "1/model.mrsplan"}


@cache
def schema() -> Any:
    """The published schema of configurations, from a file of tritonclient whose package would want grpc."""
    folder = Path(importlib.util.find_spec("tritonclient").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location("model_config_pb2", folder / "grpc" / "model_config_pb2.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(text: str) -> Any:
    """A configuration, by the published schema: unknown names, types and values are errors."""
    return text_format.Parse(text, schema().ModelConfig())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def add(plan: Path, models: Path):
    """Add the tiny plan to `models`."""

    def call(name: str = "tiny", **options: Any) -> triton_repository.ModelVersion:
        return add_version(copied(plan), models, name, **options)

    return call


def request(picture: Any, seed: Any = None, cancelled: bool = False) -> InferenceRequest:
    tensors = [Tensor("picture", picture)]
    if seed is not None:
        tensors.append(Tensor("seed", np.array(seed, np.uint32)))
    return InferenceRequest(tensors, cancelled)


# What is written


def test_a_new_model(add, models, plan) -> None:
    made = add()
    assert (made.model, made.number, made.kept) == (models / "tiny", 1, False)
    assert files(models / "tiny") == FILES
    assert os.listdir(models) == ["tiny"]
    assert (models / "tiny" / "1" / "model.mrsplan").read_bytes() == plan.read_bytes()


@pytest.mark.parametrize(("backend", "kind"), [("openvino", "KIND_CPU"), ("torch", "KIND_GPU")])
def test_the_configuration_is_one_by_the_published_schema(backend, kind) -> None:
    facts: Any = SimpleNamespace(backend=backend, shape=(2, 64, 96), network=SimpleNamespace(channels=3), upscale=1)
    config = parsed(config_text(facts, "rain"))
    types = schema()
    assert (config.name, config.backend, config.max_batch_size, config.platform) == ("rain", "python", 0, "")
    picture, seed = config.input
    assert (picture.name, picture.data_type, picture.dims) == ("picture", types.TYPE_UINT8, [-1, -1, -1, 3])
    assert (seed.name, seed.data_type, seed.dims) == ("seed", types.TYPE_UINT32, [1])
    assert (picture.optional, seed.optional) == (False, True)
    (restored,) = config.output
    assert (restored.name, restored.data_type, restored.dims) == ("restored", types.TYPE_UINT8, [-1, -1, -1, 3])
    (group,) = config.instance_group
    assert (types.ModelInstanceGroup.Kind.Name(group.kind), group.count, list(group.gpus)) == (kind, 1, [])
    (warmup,) = config.model_warmup
    assert (warmup.batch_size, warmup.inputs["picture"].dims) == (1, [2, 64, 96, 3])
    assert warmup.inputs["picture"].data_type == types.TYPE_UINT8
    assert warmup.inputs["picture"].zero_data


def test_versions_are_numbered_on(add, models) -> None:
    """Past gaps and what is no version; what is there stays as it was."""
    add()
    (models / "tiny" / "7").mkdir()
    (models / "tiny" / "012").mkdir()
    (models / "tiny" / "notes").mkdir()
    (models / "tiny" / "config.pbtxt").write_text("mine: KIND_CPU")
    made = add()
    assert (made.number, made.kept, made.advice) == (8, True, "")
    assert files(models / "tiny" / "8") == {"model.py", "model.mrsplan"}
    assert (models / "tiny" / "config.pbtxt").read_text() == "mine: KIND_CPU"
    assert "config.pbtxt (kept)" in made.summary()
    assert os.listdir(models) == ["tiny"]


@pytest.mark.parametrize("last", [10**18 - 1, 2**63 - 3])
def test_versions_of_many_digits(add, models, last: int) -> None:
    (models / "tiny" / str(last)).mkdir(parents=True)
    (models / "tiny" / str(last) / "model.mrsplan").touch()
    assert [add().number, add().number] == [last + 1, last + 2]


def test_no_version_after_the_last(add, models) -> None:
    add()
    (models / "tiny" / str(2**63 - 1)).mkdir()
    with pytest.raises(InputError, match=f"tiny has version {2**63 - 1}, the last that there can be .choose another"):
        add()
    # This is none, for the server either.
    (models / "tiny" / str(2**63 - 1)).rmdir()
    (models / "tiny" / str(2**63)).mkdir()
    assert add().number == 2


def test_a_configuration_is_replaced_when_that_is_asked_for(add, models) -> None:
    add()
    (models / "tiny" / "config.pbtxt").write_text("mine")
    made = add(overwrite=True)
    assert (made.number, made.kept) == (2, False)
    assert parsed((models / "tiny" / "config.pbtxt").read_text()).name == "tiny"
    assert (models / "tiny" / "1" / "model.mrsplan").exists()


def test_a_configuration_that_does_not_suit_the_plan_is_told(add, models) -> None:
    add()
    (models / "tiny" / "config.pbtxt").write_text("instance_group [ { kind: KIND_GPU } ]")
    assert "the plan was made for KIND_CPU: edit instance_group, or pass --overwrite" in add().summary()


def test_a_model_without_a_configuration_gets_one(add, models) -> None:
    (models / "tiny").mkdir(parents=True)
    assert add().number == 1
    (models / "tiny" / "config.pbtxt").unlink()
    assert (add().number, files(models / "tiny") >= FILES) == (2, True)


def test_many_at_once_get_a_number_each(add, models) -> None:
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(add().number)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))
    assert os.listdir(models) == ["tiny"]


# What is refused


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", ".hidden", "-flag", "a..b", "two words", "Bär", 129 * "a"]
)
def test_names_that_are_none(add, models, name) -> None:
    with pytest.raises(InputError, match=r"is no name for a model .*--name"):
        add(name)
    assert not models.exists()


def test_places_that_cannot_be(add, models, plan, tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"nowhere/models: its folder does not exist .*make .*nowhere first"):
        add_version(copied(plan), tmp_path / "nowhere" / "models", "tiny")
    models.write_text("a file")
    with pytest.raises(InputError, match="models: it is not a folder"):
        add()
    models.unlink()
    models.mkdir()
    (models / "tiny").symlink_to("nowhere")
    with pytest.raises(InputError, match="tiny: it is not a folder"):
        add()
    # The superuser may write everywhere, so the system's answer is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == models and mode == os.W_OK))
    with pytest.raises(InputError, match="models: it is read-only"):
        add("other")
    assert os.listdir(models) == ["tiny"]


def test_a_model_of_another_kind(add, models) -> None:
    (models / "tiny" / "1").mkdir(parents=True)
    (models / "tiny" / "1" / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(InputError, match=r"tiny holds another kind of model .*--name"):
        add()
    assert files(models) == {"tiny/1/model.onnx"}


def full(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("there", [False, True], ids=["new", "next version"])
@pytest.mark.parametrize("call", ["os.fsync", "os.rename", "pathlib.Path.mkdir", "shutil.copyfileobj"])
def test_a_full_disk_leaves_nothing_behind(add, models, monkeypatch, call, there) -> None:
    if there:
        add()
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*")}
    with monkeypatch.context() as patched:
        patched.setattr(call, full)
        with pytest.raises(InputError, match=r"cannot write .*No space left on device"):
            add()
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*")} == before
    assert models.exists() == there


@pytest.mark.parametrize("error", [KeyboardInterrupt, BackendError("no backend")], ids=["interrupt", "error"])
def test_a_plan_that_is_not_made_leaves_nothing_behind(models, error) -> None:
    def make(path: Path) -> Any:
        path.write_bytes(b"half")
        raise error

    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        add_version(make, models, "tiny")
    assert not models.exists()


def test_a_damaged_plan(plan, tmp_path) -> None:
    """A bit of its network."""
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad.mrsplan").write_bytes(content)
    with pytest.raises(PlanError, match=r"bad\.mrsplan is damaged"):
        copied(tmp_path / "bad.mrsplan")


# How it serves


@pytest.fixture
def model(add) -> Path:
    Logger.lines.clear()
    return add().model


def config_of(model: Path) -> dict[str, Any]:
    """As the server gives it to the model."""
    config = parsed((model / "config.pbtxt").read_text())
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def test_it_restores_as_the_plan_does(model, plan, photo) -> None:
    """Requests of several sizes, batches and seeds in one call, each as if it came alone."""
    pictures = [photo(20, 24)[None], np.stack([photo(16, 12), photo(17, 13)[1:, 1:]]), photo(9, 7)[None]]
    with mrs.load(plan) as restorer, serving(model, config=config_of(model)) as execute:
        responses = execute(request(pictures[0], [7]), request(pictures[1], [4294967295]), request(pictures[2]))
        for response, picture, seed in zip(responses, pictures, (7, 4294967295, 0), strict=True):
            assert not response.has_error()
            (restored,) = response.output_tensors()
            assert (restored.name(), restored.as_numpy().dtype) == ("restored", np.uint8)
            np.testing.assert_array_equal(restored.as_numpy(), restorer.restore(picture, seed))


def test_the_warm_up_of_the_configuration_is_a_request_that_it_takes(model) -> None:
    config = config_of(model)
    shape = [int(side) for side in config["model_warmup"][0]["inputs"]["picture"]["dims"]]
    with serving(model, config=config) as execute:
        assert not execute(request(np.zeros(shape, np.uint8)))[0].has_error()


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (request(np.zeros((1, 0, 8, 3), np.uint8)), Code.INVALID_ARG, "is not (H, W, 3) or (N, H, W, 3)"),
        (request(np.zeros((1, 8, 8, 4), np.uint8)), Code.INVALID_ARG, "is not (H, W, 3) or (N, H, W, 3)"),
        (request(np.zeros((1, 8, 8, 3), np.int16)), Code.INVALID_ARG, "int16"),
        (request(np.zeros((1, 8, 8, 3), np.uint8), [1, 2]), Code.INVALID_ARG, "seed has 2 values"),
        (request(np.zeros((1, 8, 8, 3), np.uint8), cancelled=True), Code.CANCELLED, "cancelled before its restore"),
        (InferenceRequest([]), Code.INTERNAL, "mrs-trt failed: AttributeError"),
    ],
    ids=["empty", "alpha", "type", "seeds", "cancelled", "no picture"],
)
def test_a_request_that_fails_harms_no_other(model, photo, bad, code, says) -> None:
    good = request(photo(8, 8)[None])
    with serving(model) as execute:
        first, failed, last = execute(good, bad, good)
    assert (failed.has_error(), failed.error().code(), failed.output_tensors()) == (True, code, [])
    assert says in failed.error().message()
    np.testing.assert_array_equal(first.output_tensors()[0].as_numpy(), last.output_tensors()[0].as_numpy())
    # A bug's traceback is for the log.
    assert len(Logger.lines) == (code is Code.INTERNAL)


def test_an_engine_that_fails(model, photo, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise BackendError("openvino failed at step 1")

    with serving(model) as execute:
        monkeypatch.setattr(session.Restorer, "restore", fail)
        (response,) = execute(request(photo(8, 8)[None]))
    assert (response.error().code(), response.error().message()) == (Code.INTERNAL, "openvino failed at step 1")
    assert Logger.lines == []


def test_a_plan_that_cannot_be_loaded(model, plan) -> None:
    (model / "1" / "model.mrsplan").write_bytes(plan.read_bytes()[:-40])
    with pytest.raises(TritonModelException, match=r"model\.mrsplan is"), serving(model):
        pass


def test_the_gpu_of_an_instance_is_the_current_one(model, monkeypatch) -> None:
    import torch

    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    with serving(model, model_instance_kind="GPU", model_instance_device_id="3"):
        assert chosen == [3]


def test_an_instance_for_a_gpu_without_torch_says_what_loading_says(model, photo, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with serving(model, model_instance_kind="GPU") as execute:
        assert not execute(request(photo(8, 8)[None]))[0].has_error()


@pytest.mark.parametrize(
    ("config", "threads"),
    [
        ({}, 12),
        ({"instance_group": [{"kind": "KIND_CPU", "count": 3}]}, 4),
        ({"instance_group": [{"kind": "KIND_CPU", "count": 3}, {"kind": "KIND_CPU"}, {"kind": "KIND_GPU"}]}, 3),
        ({"instance_group": [{"kind": "KIND_CPU", "count": 50}]}, 1),
        ({"parameters": {"threads": {"string_value": "5"}}}, 5),
    ],
)
def test_instances_share_the_processors(monkeypatch, config, threads) -> None:
    monkeypatch.setattr(machine, "threads", lambda: 12)
    assert threads_of(config) == threads


def test_it_is_loaded_with_these_threads_and_closed_at_the_end(model, monkeypatch) -> None:
    made: list[session.Restorer] = []

    def load(*arguments: Any, **options: Any) -> session.Restorer:
        made.append(session.load(*arguments, **options))
        return made[0]

    monkeypatch.setattr("mrs.runtime.serving.inference_server.load", load)
    with serving(model, config={"parameters": {"threads": {"string_value": "5"}}}):
        assert (len(made), made[0].threads) == (1, 5)
    with pytest.raises(InputError, match="closed"):
        made[0].restore(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("value", ["", "0", "-1", "two", "1.5", "²"])
def test_threads_that_are_none(model, value) -> None:
    config = {"parameters": {"threads": {"string_value": value}}}
    with pytest.raises(TritonModelException, match="the parameter threads is"), serving(model, config=config):
        pass
