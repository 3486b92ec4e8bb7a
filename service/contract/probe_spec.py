"""How a probe file is to be read, and what reading it found."""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    field_validator,
    model_validator,
)

from service.contract.transform import MAX_CHANNELS, Transform, WritesWhatWasSet

ProbeFormat = Literal["npz", "safetensors", "parquet", "arrow", "imagefolder", "csv"]
Task = Literal["classification", "multilabel", "regression"]
InputDtype = Literal[
    "float16", "bfloat16", "float32", "float64", "uint8", "uint16", "uint32", "uint64",
    "int8", "int16", "int32", "int64", "bool",
]  # fmt: skip

ImageMode = Literal["L", "RGB"]

FORMATS: tuple[str, ...] = get_args(ProbeFormat)
ALL_COLUMNS = "*"
"""The input that is made of a table's columns of numbers."""

# A spec travels in a message of at most 64 KiB.
MAX_INPUTS = 16
_MAX_COLUMNS_NAMED = 1024
MAX_CLASSES_NAMED = 4096
# Two specs and more are in one message.
_MAX_CLASSES_BYTES = 24 * 1024

ArrayName = Annotated[str, Field(min_length=1, max_length=200)]
StoredLabel = Annotated[int, Field(ge=-(2**63), lt=2**63)]
ClassName = Annotated[str, Field(min_length=1, max_length=200)]
ClassNames = Annotated[list[ClassName], Field(min_length=1, max_length=MAX_CLASSES_NAMED)]
ClassLabels = Annotated[list[StoredLabel], Field(min_length=1, max_length=MAX_CLASSES_NAMED)]


def _transforms(value: object) -> Any:
    """Check a list as a list, an object of objects as transforms by array, and all else as one."""
    kind: Any = Transforms if isinstance(value, list) else Transform
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        kind = TransformByArray
    return TypeAdapter[Any](kind).validate_python(value)


def _by_shape(value: object) -> Any:
    """Check a list as a list, an object as an object, and all else as a name."""
    kind: Any = ArrayNames if isinstance(value, list) else ArrayName
    kind = ArrayByArgument if isinstance(value, dict) else kind
    return TypeAdapter[Any](kind).validate_python(value)


ArrayNames = Annotated[list[ArrayName], Field(min_length=1, max_length=MAX_INPUTS)]
ArrayByArgument = Annotated[dict[ArrayName, ArrayName], Field(min_length=1, max_length=MAX_INPUTS)]
Transforms = Annotated[list[Transform], Field(min_length=1, max_length=MAX_INPUTS)]
TransformByArray = Annotated[dict[ArrayName, Transform], Field(min_length=1, max_length=MAX_INPUTS)]


class ProbeSpec(WritesWhatWasSet):
    """How to read a probe file. Keys left out are inferred from the file, and then written back."""

    format: ProbeFormat | None = Field(default=None, description="The file's format.")
    input: (
        Annotated[ArrayName | ArrayNames | ArrayByArgument, BeforeValidator(_by_shape)] | None
    ) = Field(
        default=None,
        description="The array that holds the inputs; for a model of several inputs their names, "
        "in the order of its arguments, or an object that names the array of each argument. Left "
        "out: an argument gets the array of its name, and where names leave a choice, that is "
        "asked for. Of a table, `*` is all its columns of numbers but the target, side by side.",
    )
    columns: (
        Annotated[list[ArrayName], Field(min_length=1, max_length=_MAX_COLUMNS_NAMED)] | None
    ) = Field(
        default=None,
        description="Of a table: the columns that make up the input `*`, in this order. Default: "
        "all columns of numbers but the target, in the file's order.",
    )
    exclude: Annotated[list[ArrayName], Field(max_length=_MAX_COLUMNS_NAMED)] | None = Field(
        default=None,
        description="Of a table: columns that are not part of the input `*`, such as a row number.",
    )
    image_mode: ImageMode | None = Field(
        default=None,
        description="What images are decoded to: `RGB`, three channels, or `L`, one of grey. "
        "Default: `L` if all of them are grey, else `RGB`.",
    )
    target: ArrayName | None = Field(
        default=None,
        description="The array that holds labels or values; null: the probe has none.",
    )
    task: Task | None = Field(
        default=None,
        description="What the targets are: one class a sample or position, several labels a "
        "sample, or values. What the data does not decide is decided with the model in view.",
    )
    class_names: ClassNames | None = Field(
        default=None,
        description="What the classes or labels are called, in the order of the model's outputs. "
        "Where targets are text, these are the texts.",
    )
    class_labels: ClassLabels | None = Field(
        default=None,
        description="The stored numbers that stand for the classes, in the order of the model's "
        "outputs, where they are not 0 … K-1: [0, 255] for a mask. With task `multilabel` two "
        "numbers: for a label that a sample does not carry, and for one that it carries.",
    )
    ignore_label: StoredLabel | None = Field(
        default=None,
        description="Positions with this label are left out of every figure; null: none is.",
    )
    transform: (
        Annotated[Transform | Transforms | TransformByArray, BeforeValidator(_transforms)] | None
    ) = Field(
        default=None,
        description="What is done to the inputs; {} leaves them as they are stored. A single "
        "transform is that of the first input; a list has one for each name in the list `input`, "
        "and an object has them by the array's name. What is left out is decided with the model in "
        "view, and said in the report; the dtype always follows the model unless it is given.",
    )

    @field_validator("format", mode="before")
    @classmethod
    def _is_supported(cls, value: object) -> object:
        if value is not None and value not in FORMATS:
            raise ValueError(
                f"format is {value!r}; this release reads {', '.join(map(repr, FORMATS))}: "
                "convert the data to one of them"
            )
        return value

    @property
    def declares_no_target(self) -> bool:
        """Whether `target` was given as null, rather than left to inference."""
        return self.target is None and "target" in self.model_fields_set

    @property
    def inputs(self) -> list[str]:
        """The names in `input`; none where they are left to inference."""
        if self.input is None:
            return []
        return [self.input] if isinstance(self.input, str) else [*self._arrays()]

    def _arrays(self) -> Iterable[str]:
        return self.input.values() if isinstance(self.input, dict) else self.input or ()

    def transform_of(self, name: str, position: int) -> Transform | None:
        """Return what the spec says is done to an input.

        Args:
            name: The input's array.
            position: Its place in `input`; where that is left open, among the model's arguments.

        Returns:
            None where nothing is said.
        """
        if isinstance(self.transform, dict):
            return self.transform.get(name)
        if isinstance(self.transform, list):
            return self.transform[position]
        return self.transform if position == 0 else None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = self.inputs
        if self.target in names:
            raise ValueError(f"input and target are both {self.target!r}; expected two arrays")
        for key, named in (("input", names), ("columns", self.columns or [])):
            if len(set(named)) < len(named):
                twice = next(name for name in named if named.count(name) > 1)
                what = "arrays" if key == "input" else "columns"
                raise ValueError(f"{key} names {twice!r} twice; expected distinct {what}")
        if self.declares_no_target and self.task is not None:
            raise ValueError(
                f"task is {self.task!r} but target is null; expected the name of the array with "
                "the targets, or no task"
            )
        if self.columns is not None and self.exclude is not None:
            raise ValueError("columns and exclude are both given; expected one of them")
        if self.target is not None and self.target in (self.columns or ()):
            raise ValueError(f"columns names {self.target!r}, which is the target")
        self._check_transforms()
        self._check_classes()
        return self

    def _check_classes(self) -> None:
        names, labels = self.class_names, self.class_labels
        keys = ("class_names", "class_labels", "ignore_label")
        given = [key for key in keys if getattr(self, key) is not None]
        if given and self.declares_no_target:
            raise ValueError(f"{given[0]} is given but target is null; expected one of the two")
        wanted = {"ignore_label": {"classification"}}
        for key in given:
            tasks = wanted.get(key, {"classification", "multilabel"})
            if self.task is not None and self.task not in tasks:
                raise ValueError(
                    f"{key} is given with task {self.task!r}; expected task "
                    f"{' or '.join(map(repr, sorted(tasks)))}"
                )
        self._check_listed(names, labels)
        size = len(json.dumps([names, labels], ensure_ascii=False).encode("utf-8", "replace"))
        if size > _MAX_CLASSES_BYTES:
            raise ValueError(
                f"class_names and class_labels take {size:,} bytes of JSON; expected at most "
                f"{_MAX_CLASSES_BYTES:,}"
            )

    def _check_listed(self, names: list[str] | None, labels: list[int] | None) -> None:
        """Refuse lists of classes that contradict themselves or each other."""
        for key, values in (("class_names", names), ("class_labels", labels)):
            if values is not None and len(set(values)) < len(values):
                raise ValueError(f"{key} holds the same entry twice; expected distinct ones")
        if self.task == "multilabel":
            if labels is not None and len(labels) != 2:  # noqa: PLR2004 - not carried, carried
                raise ValueError(
                    f"class_labels has {len(labels)} entries with task 'multilabel'; expected two: "
                    "what is stored for a label that a sample does not carry, and for one it does"
                )
        elif names is not None and labels is not None and len(names) != len(labels):
            raise ValueError(
                f"class_names has {len(names)} entries and class_labels {len(labels)}; expected "
                "one of each for every class"
            )
        if labels is not None and self.ignore_label in labels:
            raise ValueError(
                f"ignore_label {self.ignore_label} is one of class_labels; expected a label that "
                "is no class"
            )

    def _check_transforms(self) -> None:
        given = self.transform
        lacks_order = isinstance(given, list) and isinstance(self.input, dict)
        if lacks_order:
            raise ValueError(
                "transform is a list and input an object, which has no order; expected an object "
                "of transforms by the array's name"
            )
        if isinstance(given, list) and len(given) != len(self.inputs):
            raise ValueError(
                f"transform lists {len(given)} and input names {len(self.inputs)}; "
                "expected one transform for each name in input"
            )
        if isinstance(given, dict) and self.inputs:
            strange = next((name for name in given if name not in self.inputs), None)
            if strange is not None:
                raise ValueError(
                    f"transform names {strange!r}, which is none of the arrays in input: "
                    f"{', '.join(self.inputs)}"
                )
        several = [*given.values()] if isinstance(given, dict) else given
        if not isinstance(several, list):
            return
        channels = sum(len(t.mean or ()) + len(t.std or ()) for t in several)
        if channels > 2 * MAX_CHANNELS:
            raise ValueError(
                f"the transforms give {channels:,} values of mean and std; expected at most "
                f"{2 * MAX_CHANNELS:,} in all"
            )


class ProbeInput(BaseModel):
    """One array that models can get as an input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ArrayName = Field(description="Its name in the file.")
    shape: list[NonNegativeInt] = Field(
        description="Of one sample; empty for one number a sample. As stored, or after the "
        "transform that the spec gives.",
        max_length=16,
    )
    dtype: InputDtype = Field(description="As stored, or after the transform that the spec gives.")


class ProbeSummary(BaseModel):
    """What reading a probe found, with the spec completed by everything that was inferred."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: PositiveInt = Field(description="Number of samples.")
    input_shape: list[NonNegativeInt] = Field(
        description="Shape of one sample of the first input.",
        max_length=16,
    )
    inputs: list[ProbeInput] = Field(
        description="The inputs that the spec names, or the first of the arrays that can be some.",
        min_length=1,
        max_length=MAX_INPUTS,
    )
    task: Task | None = Field(
        description="null for a probe without targets, and where only a model decides."
    )
    classes: PositiveInt | None = Field(
        description="Number of classes; null for values, without targets, and where only a model "
        "decides."
    )
    class_counts: list[NonNegativeInt] | None = Field(
        description="Labels of each class: one a sample, or one for each position of each sample; "
        "of several labels a sample, how many samples carry each. null as `classes`."
    )
    spec: ProbeSpec
