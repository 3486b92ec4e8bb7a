import pytest
from pydantic import ValidationError

from service.contract.probe_spec import ProbeSpec
from service.contract.transform import Transform


def test_keys_left_out_are_left_out_again() -> None:
    assert ProbeSpec.model_validate({}).model_dump(mode="json") == {}
    given = {"input": "x", "target": None, "transform": {"dtype": "float32", "scale": 0.5}}
    spec = ProbeSpec.model_validate(given)
    assert spec.model_dump(mode="json") == given
    assert ProbeSpec.model_validate_json(spec.model_dump_json()) == spec


def test_null_target_differs_from_none_given() -> None:
    assert ProbeSpec.model_validate({"target": None}).declares_no_target
    assert not ProbeSpec.model_validate({}).declares_no_target
    assert not ProbeSpec.model_validate({"target": "y"}).declares_no_target


def test_empty_transform_differs_from_none_given() -> None:
    assert ProbeSpec.model_validate({"transform": {}}).transform == Transform()
    assert ProbeSpec.model_validate({}).transform is None


def test_schema_shows_the_fields() -> None:
    schema = ProbeSpec.model_json_schema(mode="serialization")
    assert set(schema["properties"]) == set(ProbeSpec.model_fields)
    assert {"format", "input", "target", "task", "transform"} <= set(schema["properties"])


def test_several_inputs_are_written_as_they_were_given() -> None:
    given = {"input": ["ids", "mask"], "transform": [{"dtype": "int64"}, {}]}
    spec = ProbeSpec.model_validate(given)
    assert spec.inputs == ["ids", "mask"]
    assert spec.model_dump(mode="json") == given
    assert ProbeSpec.model_validate_json(spec.model_dump_json()) == spec
    assert ProbeSpec.model_validate({"input": "x"}).inputs == ["x"]
    assert ProbeSpec.model_validate({}).inputs == []


def test_an_error_names_the_key_that_was_given_and_no_alternative() -> None:
    for given, location in (
        ({"transform": {"std": [0.0]}}, ("transform", "std", 0)),
        ({"input": ["a"], "transform": [{"std": [0.0]}]}, ("transform", 0, "std", 0)),
        ({"input": 5}, ("input",)),
        ({"input": ["a", ""]}, ("input", 1)),
        ({"input": []}, ("input",)),
    ):
        with pytest.raises(ValidationError) as refusal:
            ProbeSpec.model_validate(given)
        assert [error["loc"] for error in refusal.value.errors()] == [location]


@pytest.mark.parametrize(
    ("layout", "axes", "channel_axis"),
    [
        (None, None, 1),
        ("NHWC->NCHW", (0, 3, 1, 2), 1),
        ("NCHW->NHWC", (0, 2, 3, 1), 3),
        ("NTF->NFT", (0, 2, 1), 1),
        ("N->N", (0,), 1),
    ],
)
def test_layout_is_a_permutation(
    layout: str | None, axes: tuple[int, ...] | None, channel_axis: int
) -> None:
    transform = Transform(layout=layout)
    assert transform.axes == axes
    assert transform.channel_axis == channel_axis


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"format": "hdf5"}, "'npz', 'safetensors'"),
        ({"format": ["npz"]}, "'npz', 'safetensors'"),
        ({"colour": 1}, "Extra inputs"),
        ({"input": ""}, "at least 1 character"),
        ({"input": "a", "target": "a"}, "expected two arrays"),
        ({"input": ["a", "b"], "target": "b"}, "input and target are both 'b'"),
        ({"input": ["a", "b", "a"]}, "input names 'a' twice"),
        ({"input": []}, "at least 1 item"),
        ({"columns": ["a"], "exclude": ["b"]}, "expected one of them"),
        ({"columns": ["a", "b"], "target": "b"}, "which is the target"),
        ({"columns": ["a", "b", "a"]}, "columns names 'a' twice"),
        ({"image_mode": "CMYK"}, "'L' or 'RGB'"),
        ({"input": [f"a{i}" for i in range(17)]}, "at most 16 items"),
        ({"input": ["a", "b"], "transform": [{}]}, "transform lists 1 and input names 2"),
        ({"transform": [{}, {}]}, "transform lists 2 and input names 0"),
        (
            {"input": list("abc"), "transform": [{"mean": [0.5] * 1024}] * 3},
            "3,072 values of mean and std; expected at most 2,048",
        ),
        ({"task": "ranking"}, "'multilabel' or 'regression'"),
        ({"target": None, "task": "regression"}, "target is null"),
        ({"transform": {"layout": "HWC->CHW"}}, "begin with N"),
        ({"transform": {"layout": "NHWC->NCH"}}, "same distinct axis letters"),
        ({"transform": {"layout": "NHHC->NCHH"}}, "same distinct axis letters"),
        ({"transform": {"layout": "NHWC"}}, "such as 'NHWC->NCHW'"),
        ({"transform": {"dtype": "complex64"}}, "float32"),
        ({"transform": {"dtype": "uint8", "scale": 0.5}}, "use dtype 'float32'"),
        ({"transform": {"scale": float("inf")}}, "finite"),
        ({"transform": {"scale": 0}}, "scale is 0, which makes all inputs 0"),
        ({"transform": {"scale": "1/0.0"}}, "or a fraction such as"),
        ({"transform": {"scale": "0/255"}}, "scale is 0, which makes all inputs 0"),
        ({"transform": {"mean": [float("nan")]}}, "finite"),
        ({"transform": {"mean": []}}, "at least 1 item"),
        ({"transform": {"std": [1.0, 0.0]}}, "greater than 0"),
        ({"transform": {"rotate": 90}}, "Extra inputs"),
        ({"class_names": ["a", "a"]}, "class_names holds the same entry twice"),
        ({"class_labels": [1, 1]}, "class_labels holds the same entry twice"),
        ({"class_names": []}, "at least 1 item"),
        ({"class_names": ["a" * 200] * 4096}, "same entry twice"),
        ({"class_names": [f"{k:0200}" for k in range(200)]}, "expected at most 24,576"),
        ({"class_names": ["a", "b"], "class_labels": [1, 2, 3]}, "2 entries and class_labels 3"),
        ({"class_labels": [0, 255], "ignore_label": 255}, "expected a label that is no class"),
        ({"class_labels": [0.5]}, "valid integer"),
        ({"class_labels": [2**63]}, "less than"),
        ({"ignore_label": "void"}, "valid integer"),
        ({"task": "regression", "ignore_label": 255}, "expected task 'classification'"),
        ({"task": "regression", "class_labels": [0, 1]}, "'classification' or 'multilabel'"),
        ({"task": "multilabel", "class_labels": [0, 1, 2]}, "expected two: what is stored"),
        ({"task": "multilabel", "ignore_label": -1}, "expected task 'classification'"),
        ({"task": "regression", "class_names": ["a"]}, "'classification' or 'multilabel'"),
        ({"target": None, "ignore_label": 255}, "ignore_label is given but target is null"),
    ],
)
def test_refusal_says_what_is_expected(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        ProbeSpec.model_validate(given)
    assert words in str(refusal.value)


def test_transforms_may_be_given_by_the_arrays_name() -> None:
    assert Transform.model_validate({"scale": "1/127.5"}).scale == 1 / 127.5
    given = {"transform": {"pixels": {"scale": "1/255"}, "ids": {}}}
    spec = ProbeSpec.model_validate(given)
    assert spec.transform_of("pixels", 5) == Transform(scale=1 / 255)
    assert (spec.transform_of("ids", 0), spec.transform_of("others", 0)) == (Transform(), None)
    again = ProbeSpec.model_validate_json(spec.model_dump_json())
    assert again == spec


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"input": {"a": "x"}, "transform": [{}]}, "input an object, which has no order"),
        ({"input": ["x"], "transform": {"y": {}}}, "transform names 'y'"),
    ],
)
def test_transforms_and_inputs_go_together(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ProbeSpec.model_validate(given)
