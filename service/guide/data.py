"""Which data works: one row for each kind of file, and what is made of it.

The tests hold files of every kind against its row, so what is said here is what happens.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataKind:
    """Files that are alike in how they are read.

    Attributes:
        key: Its name in the tests.
        title: What people call such files.
        read: What becomes inputs and targets.
        asked: What cannot be told from the file and is asked for, or refused, and what to do.
    """

    key: str
    title: str
    read: str
    asked: str


_ROWS = (
    DataKind(
        "npz",
        "numpy's `.npz`",
        "Each array under its name: `numpy.savez(path, x=inputs, y=labels)`. Python objects in it "
        "are never unpickled.",
        "Several arrays that could be the targets: `target`.",
    ),
    DataKind(
        "safetensors",
        "safetensors",
        "Each tensor under its name, bfloat16 too.",
        "As above.",
    ),
    DataKind(
        "parquet",
        "Parquet with lists",
        "Each column is an array; lists of one length become axes, lists in lists more of them. "
        "Hugging Face's `Array2D`, Arrow's tensors and tokens work as they are.",
        "",
    ),
    DataKind(
        "parquet_images",
        "Parquet with images",
        "Encoded images, as Hugging Face writes them (a struct of `bytes` and `path`) or alone. "
        "Names of a `ClassLabel` become `class_names`.",
        "Images of several sizes, of more than 8 bits, or stored turned (EXIF): prepare them as "
        "your evaluation does. Images that are named and not held: embed them.",
    ),
    DataKind(
        "masks",
        "Parquet and Arrow with masks",
        "A column of images that is the target (`label`, or as `target` says) holds the class of "
        "each pixel: modes L, P (places in the palette), 1 and 16 or 32 bits, as stored.",
        "Masks in colours.",
    ),
    DataKind(
        "columns",
        "Parquet and Arrow of plain columns",
        "All columns of numbers but the target, side by side, in the file's order: `input` is `*`. "
        "The target is a column with a customary name (`y`, `target`, `label` …), else the only "
        "one that holds names of classes. An index of pandas is left out, and named in `exclude`.",
        "No such target, or a column y beside x and more: `target`. A column that only counts the "
        "rows, or one of text: `exclude`. Another order of the columns, or some of them: "
        "`columns`. Categories in an order that is not the alphabet's: `class_names`.",
    ),
    DataKind(
        "csv",
        "CSV with a header",
        "As plain columns. Commas, semicolons, tabs or bars; quotes as everybody writes them; "
        "UTF-8. Whole numbers, numbers, true and false, and text are told apart.",
        "As above. No header, decimal commas, rows of another length, other encodings are refused "
        "with their place.",
    ),
    DataKind(
        "imagefolder",
        "Images in a zip or tar, a folder for each class",
        "PNG, JPEG, BMP, GIF (its first picture), PPM, TIFF and WebP, in the order of folders and "
        "names that torchvision's `ImageFolder` and Hugging Face's `imagefolder` have, which is "
        "also that of the classes. If all images are grey they have one channel, else they become "
        "RGB as torchvision's loader converts them; `image_mode` fixes it. Images in one folder "
        "have no labels.",
        "Images of several sizes are refused with the sizes. Folders named 0 … 10 and more, whose "
        "order as text is another: `class_names`. Train beside test: pack one.",
    ),
    DataKind(
        "arrow",
        "Arrow files and streams, Feather",
        "As Parquet.",
        "As for Parquet.",
    ),
    DataKind(
        "saved_datasets",
        "A folder of Hugging Face's `save_to_disk`, in a tar",
        "The files that its `state.json` lists, in that order, as Parquet; nothing else in it.",
        "Several parts in one folder: save one.",
    ),
    DataKind(
        "several_files",
        "Several files",
        "`.npy` files are arrays named by their files; Parquet, Arrow and CSV files are parts of "
        "one table, in the order of their names. Upload them as several parts `file`, or in a zip "
        "or an uncompressed tar.",
        "Files of several kinds, or with different columns.",
    ),
    DataKind(
        "missing_values",
        "Missing values",
        "None is filled in.",
        "Refused with column and row; a column that is no input can be left out with `exclude`.",
    ),
    DataKind(
        "ragged",
        "Lists of several lengths",
        "None is padded.",
        "Refused with column and row: pad, with a mask where the model takes one.",
    ),
)

DATA_KINDS: dict[str, DataKind] = {kind.key: kind for kind in _ROWS}


@dataclass(frozen=True)
class InputKind:
    """Inputs that are alike in what their values mean to a model.

    Attributes:
        key: Its name in the tests.
        title: What people call them.
        taken: How they reach the model without a word in the spec, and what shows it.
        asked: What is asked for where nothing shows it.
    """

    key: str
    title: str
    taken: str
    asked: str


_INPUTS = (
    InputKind(
        "pictures",
        "Pictures as whole numbers: uint8, uint16, or wider",
        "As they are, or divided by 255 (65535), as the model shows: it divides or normalises its "
        "input, or its first batch norm remembers how spread its values were. Channels that come "
        "last are put first if the model only runs so.",
        'The scale, as `"transform": {"scale": "1/255"}` or `{"scale": 1}`, and the `layout`.',
    ),
    InputKind(
        "float_pictures",
        "Pictures as floats",
        "As they are stored, in the precision of the model's weights. A warning `value_range` asks "
        "where they look like bytes, or unlike what a batch norm remembers.",
        "",
    ),
    InputKind(
        "one_hot",
        "One-hot sequences, of DNA say",
        "As they are, whatever number type they have: nothing but 0 and 1 are no pixels.",
        "",
    ),
    InputKind(
        "fingerprints",
        "Indicators: fingerprints, binarised images",
        "As they are, likewise.",
        "",
    ),
    InputKind(
        "tokens",
        "Tokens",
        "As int64, from any number type that holds whole numbers.",
        "",
    ),
    InputKind(
        "masked_tokens",
        "Tokens with a mask, lengths, types; every model of several inputs",
        "Each argument gets the array of its name, in whatever order the file has them. Masks "
        "reach a model that wants them as bool, as numbers one that multiplies by them.",
        'Arrays with other names, where more than one way to give them runs: `"input": {"ids": '
        '"words", "mask": "kept"}`.',
    ),
    InputKind(
        "tables",
        "Tables of numbers, counts and categories",
        "As they are stored, in the precision of the model's weights.",
        "Tables of uint8: the scale, unless a batch norm shows it.",
    ),
    InputKind(
        "sound",
        "Sound: floats, or 16 bits",
        "Floats as they are; 16 bits as they are if the model divides them.",
        'The scale: `"1/32768"` or 1.',
    ),
)

INPUT_KINDS: dict[str, InputKind] = {kind.key: kind for kind in _INPUTS}
