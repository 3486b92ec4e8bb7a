"""CSV tables, as spreadsheets, pandas and R write them."""

import io

import numpy as np
import pandas as pd
from sklearn.datasets import load_iris

from tests.workers.probes.data.case import Case
from tests.workers.probes.data.parquet import AGES, HEIGHTS, LABELS, ORDER

X = np.stack([AGES, HEIGHTS], axis=1)
FRAME = pd.DataFrame({"age": AGES, "height": HEIGHTS, "label": LABELS})
TABLE = FRAME.to_csv(index=False)
IRIS = load_iris()


def written(frame: pd.DataFrame, **options: object) -> bytes:
    return frame.to_csv(**{"index": False, **options}).encode()


def _pixels() -> tuple[np.ndarray, bytes]:
    pixels = np.random.default_rng(3).integers(0, 256, (12, 784))
    frame = pd.DataFrame(pixels, columns=[f"pixel{place}" for place in range(784)])
    frame.insert(0, "label", LABELS)
    return pixels, written(frame)


def _iris() -> bytes:
    frame = pd.DataFrame(IRIS.data, columns=["sepal.length", "sepal.width", "petal.length", "w"])
    frame["species"] = IRIS.target_names[IRIS.target]
    return written(frame)


def _changed(line: int, old: str, new: str) -> bytes:
    lines = TABLE.splitlines(keepends=True)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    return "".join(lines).encode()


def _rewritten(content: bytes) -> bytes:
    frame = pd.read_csv(io.BytesIO(content), sep=None, engine="python", decimal=",")
    return frame.to_csv(index=False).encode()


CASES = [
    Case(
        "csv",
        "as pandas writes it",
        TABLE.encode,
        X,
        LABELS,
        written={"format": "csv", "input": "*", "target": "label"},
    ),
    Case("csv", "with semicolons", lambda: written(FRAME, sep=";"), X, LABELS),
    Case(
        "csv",
        "with tabs and a byte order mark",
        ("\ufeff" + written(FRAME, sep="\t").decode()).encode,
        X,
        LABELS,
    ),
    Case(
        "csv",
        "with lines as Windows ends them",
        TABLE.replace("\n", "\r\n").encode,
        X,
        LABELS,
    ),
    Case("csv", "with everything quoted", lambda: written(FRAME, quoting=1), X, LABELS),
    Case("csv", "pixels, label first", lambda: _pixels()[1], _pixels()[0], LABELS),
    Case(
        "csv",
        "names of classes in a column of its own",
        _iris,
        IRIS.data,
        IRIS.target,
        written={"target": "species"},
    ),
    Case(
        "csv",
        "names with commas and quotes in quotes",
        lambda: written(FRAME.assign(label=np.array(['a, "b"', "b; c", "z"])[LABELS])),
        X,
        LABELS,
    ),
    Case(
        "csv",
        "truths and whole numbers",
        lambda: written(pd.DataFrame({"member": LABELS > 0, "age": AGES, "y": LABELS})),
        np.stack([LABELS > 0, AGES], axis=1).astype(np.int64),
        LABELS,
    ),
    Case(
        "csv",
        "pandas' index, without a name, is no feature",
        lambda: written(FRAME.iloc[ORDER], index=True),
        X[ORDER],
        LABELS[ORDER],
        written={"exclude": ["Unnamed: 0"]},
    ),
    Case(
        "csv",
        "values to predict",
        lambda: written(pd.DataFrame({"age": AGES, "target": HEIGHTS})),
        AGES[:, None],
        HEIGHTS,
    ),
    Case(
        "csv",
        "text that is no feature",
        lambda: written(FRAME.assign(city=[f"Town {row}" for row in range(12)])),
        X,
        LABELS,
        refused="'city' cannot be part of the inputs: it holds text, first 'Town 0' in row 0",
        hint='Set "exclude": ["city"]',
        answer={"exclude": ["city"]},
    ),
    Case(
        "csv",
        "a class in capitals",
        lambda: written(FRAME.rename(columns={"label": "Class"})),
        X,
        LABELS,
        written={"target": "Class"},
    ),
    Case(
        "csv",
        "two columns that could be the target",
        lambda: written(FRAME.assign(target=1 - LABELS % 2)),
        np.column_stack([X, 1 - LABELS % 2]),
        LABELS,
        refused="'label', 'target' could be it",
        hint='Set "target": "target" in the spec',
        answer={"target": "label"},
    ),
    Case(
        "csv",
        "columns in an order of their own",
        lambda: written(FRAME),
        X[:, ::-1],
        LABELS,
        spec={"columns": ["height", "age"]},
        written={"input": "*", "columns": ["height", "age"]},
    ),
    Case(
        "csv",
        "columns among which is the target, by its name",
        lambda: written(FRAME),
        X,
        LABELS,
        spec={"columns": ["age", "height", "label"]},
        refused="names 'label', which by its name is the target",
        hint='Set "columns": ["age", "height"] in the spec if it is',
        answer={"columns": ["age", "height"]},
    ),
    Case(
        "csv",
        "columns among which is a feature with the name of a target",
        lambda: written(FRAME.rename(columns={"height": "y", "label": "zone"})),
        X,
        LABELS,
        spec={"columns": ["age", "y"]},
        refused="names 'y', which by its name is the target",
        hint='"target": "zone" if that is',
        answer={"target": "zone"},
    ),
    Case(
        "csv",
        "columns among which is one of two with the name of a target",
        lambda: written(FRAME.rename(columns={"height": "y"})),
        X,
        LABELS,
        spec={"columns": ["age", "y"]},
        written={"target": "label"},
    ),
    Case(
        "csv",
        "the target alone as columns",
        lambda: written(FRAME[["label", "age"]]),
        LABELS[:, None],
        None,
        spec={"columns": ["label"]},
        refused="names 'label', which by its name is the target",
        hint='"target": null',
        answer={"target": None},
    ),
    Case(
        "csv",
        "a key that is for other files",
        lambda: written(FRAME),
        X,
        LABELS,
        spec={"image_mode": "RGB"},
        refused="'image_mode', which is for imagefolder, parquet, arrow; the file is csv",
        hint='Leave "image_mode" out',
        answer={"image_mode": None},
    ),
    Case(
        "csv",
        "whole numbers that go on as others",
        lambda: b"a,label\n" + b"1,0\n" * 5000 + b"2.5,1\n-3e2,1\n",
        np.array([[1.0]] * 5000 + [[2.5], [-300]]),
        np.array([0] * 5000 + [1, 1]),
    ),
    Case(
        "csv",
        "truths that go on as numbers",
        lambda: b"a,b,label\n" + b"true,1,0\n" * 5000 + b"1,2,1\n",
        refused="'a' cannot be part of the inputs: it holds text",
        hint='Set "exclude": ["a"]',
    ),
    Case(
        "csv",
        "decimal commas",
        lambda: written(FRAME, sep=";", decimal=","),
        refused="perhaps a number with a comma",
        hint="Write the numbers of 'height' with decimal points",
    ),
    Case(
        "csv",
        "decimal commas, written as the hint says",
        lambda: _rewritten(written(FRAME, sep=";", decimal=",")),
        X,
        LABELS,
    ),
    Case(
        "csv",
        "commas between thousands, or decimal ones",
        lambda: b'a,b,label\n1,"11,089",0\n2,"9,120",1\n',
        refused="perhaps a number with a comma",
        hint='if these separate thousands, as pandas.read_csv(path, sep=None, engine="python", '
        'thousands=",").to_csv(new_path, index=False) does; if they are decimal ones, with',
    ),
    Case(
        "csv",
        "commas between thousands",
        lambda: b'a,b,label\n1,"1,211,089",0\n2,"9,120",1\n',
        refused="perhaps a number with a comma",
        hint="Write the numbers of 'b' without commas, as pandas.read_csv(path, sep=None, "
        'engine="python", thousands=",")',
    ),
    Case(
        "csv",
        "decimal commas beside text",
        lambda: written(FRAME.assign(city="Rome"), sep=";", decimal=","),
        refused="perhaps a number with a comma",
        hint='new_path, index=False) does. Set "exclude": ["city"] in the spec',
    ),
    Case(
        "csv",
        "without a header",
        TABLE.partition("\n")[2].encode,
        refused="The first line holds numbers",
        hint="Add a first line with a name for each column, such as x0,x1,label",
    ),
    Case(
        "csv",
        "without a header, with names of classes in the rows",
        lambda: b"5.1,3.5,1.4,0.2,Iris-setosa\n4.9,3.0,1.4,0.2,Iris-setosa\n",
        refused="The first line holds numbers (5.1, 3.5, 1.4, 0.2), as a row of the table does",
        hint="Add a first line",
    ),
    Case(
        "csv",
        "columns that pandas has numbered",
        lambda: written(pd.DataFrame(np.column_stack([X, X])).assign(label=LABELS)),
        np.column_stack([X, X]),
        LABELS,
        written={"target": "label"},
    ),
    Case(
        "csv",
        "a row with a cell too many",
        lambda: _changed(5, "\n", ",\n"),
        refused="near line",
        hint="Quote cells",
    ),
    Case(
        "csv",
        "in an older encoding",
        lambda: "größe,label\n1,0\n".encode("latin-1"),
        refused="not encoded as UTF-8",
        hint="Save it again as UTF-8",
    ),
    Case(
        "csv",
        "a quote without end",
        lambda: b'a,label\n1,0\n"2,1\n',
        refused="cannot be split into cells",
        hint="Close every quoted cell",
    ),
    Case(
        "missing_values",
        "an empty cell",
        lambda: _changed(7, str(AGES[6]), ""),
        refused="'age' has no value in row 6",
        hint="drop the rows",
    ),
    Case(
        "missing_values",
        "in several columns, beside text",
        lambda: written(FRAME.assign(city="Rome", a=[None, *AGES[1:]], b=[*AGES[:11], None])),
        X,
        LABELS,
        spec={"target": "label", "exclude": ["city"]},
        refused="'a' has no value in row 0",
        hint='If your model does not take these columns, set "exclude": ["city", "a", "b"]',
        answer={"exclude": ["city", "a", "b"]},
    ),
    Case(
        "missing_values",
        "in one of two columns that could be the target",
        lambda: written(
            pd.DataFrame({"age": AGES, "kind": [None, *"abcabcabcab"], "type": [*"ababababcabc"]})
        ),
        AGES[:, None],
        np.array([0, 1] * 4 + [2, 0, 1, 2]),
        refused="'kind', 'type' could be it",
        hint='Set "target": "type"',
        answer={"target": "type", "exclude": ["kind"]},
    ),
    Case(
        "missing_values",
        "a cell that says so",
        lambda: _changed(7, str(AGES[6]), "NA"),
        X[:, 1:],
        LABELS,
        refused="'age' has no value in row 6",
        hint='set "exclude": ["age"]',
        answer={"exclude": ["age"]},
    ),
]
