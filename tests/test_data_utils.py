"""Data in folders, the digits, and pickles that want to do more than hold arrays."""

import io
import pickle
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from fastbn.data_utils import (
    get_CIFAR10_data,
    get_digits_data,
    load_CIFAR10,
    load_CIFAR_batch,
    load_imagenet_val,
    load_models,
    load_pickle,
    load_tiny_imagenet,
)

NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
PER_BATCH = 4


def loads(data):
    return load_pickle(io.BytesIO(data))


@pytest.fixture
def cifar(tmp_path):
    """A folder of six batches, four images each, and what is in it."""
    rng = np.random.RandomState(0)
    batches = {}
    for name in NAMES:
        pixels = rng.randint(256, size=(PER_BATCH, 3072)).astype(np.uint8)
        batches[name] = {"data": pixels, "labels": rng.randint(10, size=PER_BATCH).tolist()}
        (tmp_path / name).write_bytes(pickle.dumps(batches[name], protocol=2))
    return tmp_path, batches


def python2_pickle(array):
    """A uint8 matrix as Python 2 pickles it: the bytes as a string."""
    N, D = array.shape
    return b"".join(
        [
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR",
            b"(K\x01",
            b"J",
            struct.pack("<i", N),
            b"J",
            struct.pack("<i", D),
            b"\x86",
            b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89T",
            struct.pack("<i", array.size),
            array.tobytes(),
            b"tb.",
        ]
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_load_pickle_keeps_plain_data(protocol):
    data = {
        "C": np.arange(6.0).reshape(2, 3),
        "Fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">i4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float32),
        "0-d": np.array(2.5),
        "nest": [(1, 2.5, None, "é"), {3: b"\xff\x00", 4: True}],
        "scalar": np.float32(1.5),
    }
    got = loads(pickle.dumps(data, protocol=protocol))
    assert list(got) == list(data)
    for key in list(data)[:-2]:
        assert type(got[key]) is np.ndarray
        assert got[key].dtype == data[key].dtype
        assert got[key].flags.writeable
        np.testing.assert_array_equal(got[key], data[key])
    assert got["nest"] == data["nest"]
    assert got["scalar"] == 1.5 and type(got["scalar"]) is np.float32


def test_load_pickle_of_python_2():
    array = np.arange(256, dtype=np.uint8).reshape(2, 128)
    np.testing.assert_array_equal(loads(python2_pickle(array)), array)


def _shared(levels):
    """A list of `levels` lists whose innermost can be reached in 2**levels ways."""
    value = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def test_shared_references_cost_nothing():
    value = loads(pickle.dumps({"deep": _shared(60), "tuple": (1, _shared(60))}))["deep"]
    for _ in range(60):
        first, second = value
        assert first is second
        value = first
    assert value == [1]


@pytest.mark.parametrize("key", ["data", "labels"])
def test_batch_of_shared_references(key, tmp_path):
    path = tmp_path / "batch"
    batch = {"data": np.zeros((2, 3072)), "labels": [1, 2], key: _shared(60)}
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=f"batch is not a CIFAR-10 batch: {key} must be"):
        load_CIFAR_batch(path)


class Evil:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_hostile_pickle_is_not_run(protocol, tmp_path):
    target = tmp_path / "created"
    for evil in (
        Evil(open, str(target), "w"),
        Evil(eval, f"open({str(target)!r}, 'w')"),
        Evil(getattr, np.dtype, "type"),
        np.load,
        np.ndarray((1,), object),
    ):
        with pytest.raises(ValueError, match="not a readable pickle of plain arrays"):
            loads(pickle.dumps({"data": evil}, protocol=protocol))
    assert not target.exists()


@pytest.mark.parametrize("data", [b"\x80\x02]r\x00\xe1\xf5\x05.", b"\x80\x02]p100000000\n."])
def test_numbers_of_the_memo_allocate_nothing(data):
    # 1.6 GB in an unpickler whose memo is an array.
    tracemalloc.start()
    try:
        assert load_pickle(io.BytesIO(data)) == []
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_hostile_pickle_imports_nothing():
    assert "antigravity" not in sys.modules
    with pytest.raises(ValueError, match="it names antigravity.fly, which no plain array needs"):
        loads(b"cantigravity\nfly\n.")
    assert "antigravity" not in sys.modules


DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00%bI00\nI01\ntR"
STATE = b"(I3\nX\x01\x00\x00\x00|NNNI8\nI1\nI63\ntb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(%b(I0\ntC\x01btR"


OBJECTS = b"(I1\n(I1\nt" + DTYPE % b"O8" + STATE + b"I00\nC\x08AAAAAAAAtb."


@pytest.mark.parametrize(
    "data",
    [
        # A dtype whose flags say that the bytes are pointers: the flags must be ignored or refused.
        ARRAY % b"cnumpy\nndarray\n" + OBJECTS,
        ARRAY % b"cnumpy\nndarray\n" + b"(I1\n(I1\ntX\x02\x00\x00\x00u1I00\nC\x01Atb.",
        # More elements than bytes, and fewer.
        ARRAY % b"cnumpy\nndarray\n" + b"(I1\n(I9\nt" + DTYPE % b"u1" + b"I00\nC\x01Atb.",
        ARRAY % b"cnumpy\nndarray\n" + b"(I1\n(I0\nt" + DTYPE % b"u1" + b"I00\nC\x01Atb.",
        # An array of another class; an array without content; a bare dtype; a bare class.
        ARRAY % b"cnumpy\ndtype\n" + b".",
        ARRAY % b"cnumpy\nndarray\n" + b".",
        DTYPE % b"u1" + b".",
        b"cnumpy\nndarray\n.",
        # A codec that decompresses; attributes set on what a name stands for.
        b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00ziptR.",
        b"c_codecs\nencode\n}X\x01\x00\x00\x00aI1\nsb.",
        b"cnumpy\nndarray\n)R}X\x01\x00\x00\x00aI1\nsb.",
        b"",
        b"nonsense",
        b"\x80\x04\x95",
    ],
    ids=range(14),
)
def test_malformed_pickle(data):
    with pytest.raises(ValueError, match="the stream is not a readable pickle"):
        loads(data)


def test_tampered_dtype_flags_are_ignored():
    data = (
        ARRAY % b"cnumpy\nndarray\n"
        + b"(I1\n(I1\nt"
        + DTYPE % b"i8"
        + STATE
        + b"I00\nC\x08\x01\0\0\0\0\0\0\0tb."
    )
    array = loads(data)
    np.testing.assert_array_equal(array, [1])
    assert not array.dtype.hasobject and array.dtype == np.int64


def test_load_batch(cifar):
    folder, batches = cifar
    X, Y = load_CIFAR_batch(folder / "data_batch_2")
    expected = batches["data_batch_2"]
    assert X.shape == (PER_BATCH, 32, 32, 3) and X.dtype == np.float64
    assert Y.shape == (PER_BATCH,) and Y.dtype == np.int64
    # The published layout: a channel after the other, row by row.
    np.testing.assert_array_equal(X[1, 2, 3], expected["data"][1].reshape(3, 32, 32)[:, 2, 3])
    np.testing.assert_array_equal(Y, expected["labels"])


def test_load_all(cifar):
    folder, batches = cifar
    Xtr, Ytr, Xte, Yte = load_CIFAR10(str(folder))
    assert Xtr.shape == (5 * PER_BATCH, 32, 32, 3) and Xte.shape == (PER_BATCH, 32, 32, 3)
    np.testing.assert_array_equal(Ytr, sum((batches[name]["labels"] for name in NAMES[:5]), []))
    np.testing.assert_array_equal(Yte, batches["test_batch"]["labels"])


def test_split_of_cifar(cifar):
    folder, batches = cifar
    sizes = {"num_training": 10, "num_validation": 6, "num_test": 3}
    data = get_CIFAR10_data(**sizes, subtract_mean=False, cifar10_dir=folder)
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
    pixels = np.concatenate([batches[name]["data"] for name in NAMES]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(data["X_train"], pixels[:10])
    np.testing.assert_array_equal(data["X_val"], pixels[10:16])
    np.testing.assert_array_equal(data["X_test"], pixels[20:23])
    for key in ("X_train", "X_val", "X_test"):
        assert data[key].dtype == np.float64 and data[key].flags.c_contiguous
    assert [len(data[key]) for key in ("y_train", "y_val", "y_test")] == [10, 6, 3]

    centred = get_CIFAR10_data(**sizes, cifar10_dir=folder)
    mean = pixels[:10].mean(axis=0)
    for key in ("X_train", "X_val", "X_test"):
        np.testing.assert_allclose(centred[key], data[key] - mean, atol=1e-12)


def test_default_folder(cifar, tmp_path_factory, monkeypatch):
    root = tmp_path_factory.mktemp("assignment2")
    monkeypatch.chdir(root)
    with pytest.raises(FileNotFoundError, match="no cifar-10-batches-py in .*pass cifar10_dir"):
        get_CIFAR10_data()
    (root / "cs231n" / "datasets").mkdir(parents=True)
    (root / "cs231n" / "datasets" / "cifar-10-batches-py").symlink_to(cifar[0])
    assert len(get_CIFAR10_data(10, 6, 3)["y_train"]) == 10


def test_missing_folder_and_file(cifar):
    folder, _ = cifar
    with pytest.raises(FileNotFoundError, match="no such folder of CIFAR-10 batches.*nowhere"):
        load_CIFAR10(folder / "nowhere")
    (folder / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match="no such CIFAR-10 batch.*data_batch_4"):
        load_CIFAR10(folder)


def test_truncated_file(cifar):
    path = cifar[0] / "data_batch_3"
    whole = path.read_bytes()
    for length in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="data_batch_3 is not a readable pickle"):
            load_CIFAR10(cifar[0])


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ([1, 2], "a dict with the keys data and labels"),
        ({"data": np.zeros((2, 3072))}, "a dict with the keys data and labels"),
        (
            {"data": np.zeros((2, 3000)), "labels": [1, 2]},
            r"numbers of shape \(N, 3072\); got .*3000",
        ),
        ({"data": np.zeros((2, 3072)), "labels": [1]}, "labels must be 2 integers"),
        ({"data": np.zeros((2, 3072)), "labels": ["a", "b"]}, "labels must be 2 integers"),
        ({"data": np.zeros((2, 3072)), "labels": [0, 10]}, "labels must be one or more of 0 to 9"),
        ({"data": np.zeros((0, 3072), "u1"), "labels": np.zeros(0, int)}, "one or more of 0 to 9"),
    ],
)
def test_batch_that_is_none(batch, reason, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=f"batch is not a CIFAR-10 batch: .*{reason}"):
        load_CIFAR_batch(path)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (
            {"num_training": 15, "num_validation": 6, "num_test": 1},
            ValueError,
            r"num_training \+ num_validation must be at most 20; got 15 \+ 6",
        ),
        (
            {"num_training": 1, "num_validation": 1, "num_test": 5},
            ValueError,
            "num_test must be at most 4; got 5",
        ),
        ({"num_training": 0}, ValueError, "num_training must be at least 1; got 0"),
        ({"num_training": 1.5}, TypeError, "num_training must be an integer; got 1.5"),
    ],
)
def test_bad_sizes(cifar, sizes, error, message):
    with pytest.raises(error, match=message):
        get_CIFAR10_data(**sizes, cifar10_dir=cifar[0])


def test_digits():
    state = np.random.get_state()[1].copy()
    data = get_digits_data(subtract_mean=False)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    sizes = {"train": 1257, "val": 180, "test": 360}
    for name, N in sizes.items():
        X, y = data[f"X_{name}"], data[f"y_{name}"]
        assert X.shape == (N, 1, 8, 8) and X.dtype == np.float64 and X.flags.c_contiguous
        assert y.shape == (N,) and y.dtype == np.int64
        assert X.min() == 0 and X.max() == 1
        assert set(y) == set(range(10))
    # Every image is in exactly one of the sets.
    images = np.concatenate([data[f"X_{name}"].reshape(-1, 64) for name in sizes])
    assert np.sum(images) == pytest.approx(561718 / 16)

    again = get_digits_data()
    mean = data["X_train"].mean(axis=0)
    np.testing.assert_allclose(again["X_test"], data["X_test"] - mean, atol=1e-15)
    np.testing.assert_array_equal(again["y_test"], data["y_test"])
    assert not np.array_equal(get_digits_data(seed=1)["y_test"], data["y_test"])


def test_digits_sizes():
    data = get_digits_data(num_validation=10, num_test=20)
    assert [len(data[f"y_{name}"]) for name in ("train", "val", "test")] == [1767, 10, 20]
    with pytest.raises(ValueError, match=r"num_validation \+ num_test must be less than 1797"):
        get_digits_data(num_validation=1000, num_test=797)
    with pytest.raises(ValueError, match="num_test must be at least 1; got 0"):
        get_digits_data(num_test=0)


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'fastbn\[train\]'"):
        get_digits_data()


# TinyImageNet

WNIDS = ["n02", "n01", "n03"]


def write_image(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture
def tiny(tmp_path):
    """A folder of three classes; PNG files, whose pixels are exact. The pixels of each set."""
    rng = np.random.RandomState(3)
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    words = {"n01": "goldfish, Carassius auratus", "n02": "tench", "n03": "é", "n09": "other"}
    (tmp_path / "words.txt").write_text(
        "".join(f"{wnid}\t{names}\n" for wnid, names in words.items()), encoding="utf-8"
    )
    pixels = {"train": [], "val": [], "test": []}
    for wnid in WNIDS:
        lines = []
        for number in (1, 0):
            image = rng.randint(256, size=(64, 64, 3)).astype(np.uint8)
            name = f"{wnid}_{number}.JPEG"
            write_image(tmp_path / "train" / wnid / "images" / name, image)
            lines.append(f"{name}\t0\t10\t62\t61\n")
            pixels["train"].append(image)
        (tmp_path / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(lines))
    annotations = []
    for name, wnid in (("val_1.JPEG", "n03"), ("val_0.JPEG", "n02")):
        image = rng.randint(256, size=(64, 64)).astype(np.uint8)  # grey
        write_image(tmp_path / "val" / "images" / name, image)
        annotations.append(f"{name}\t{wnid}\t0\t0\t63\t63\n")
        pixels["val"].append(np.stack([image] * 3, axis=2))
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(annotations))
    for number in range(3):
        image = rng.randint(256, size=(64, 64, 3)).astype(np.uint8)
        write_image(tmp_path / "test" / "images" / f"test_{number}.JPEG", image)
        pixels["test"].append(image)
    return tmp_path, {key: np.stack(images) for key, images in pixels.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiny_imagenet(tiny, dtype):
    folder, pixels = tiny
    data = load_tiny_imagenet(folder, dtype, subtract_mean=False)
    assert set(data) == {
        "class_names",
        "mean_image",
        *(f"{letter}_{key}" for letter in "Xy" for key in pixels),
    }
    assert data["class_names"] == [["tench"], ["goldfish", "Carassius auratus"], ["é"]]
    for key, images in pixels.items():
        X = data[f"X_{key}"]
        assert X.dtype == dtype and X.flags.c_contiguous
        np.testing.assert_array_equal(X, images.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data["y_train"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(data["y_val"], [2, 0])
    assert data["y_train"].dtype == data["y_val"].dtype == np.int64
    assert data["y_test"] is None
    mean = pixels["train"].mean(axis=0).transpose(2, 0, 1).astype(dtype)
    np.testing.assert_array_equal(data["mean_image"], mean)
    assert data["mean_image"].dtype == dtype

    centred = load_tiny_imagenet(str(folder), dtype)
    for key in pixels:
        np.testing.assert_array_equal(centred[f"X_{key}"], data[f"X_{key}"] - mean)


def test_annotated_test_images(tiny):
    folder, pixels = tiny
    path = folder / "test" / "test_annotations.txt"
    path.write_text("test_2.JPEG\tn01\ntest_0.JPEG\tn03\ntest_1.JPEG\tn02\n")
    data = load_tiny_imagenet(folder, subtract_mean=False)
    np.testing.assert_array_equal(data["y_test"], [2, 0, 1])
    np.testing.assert_array_equal(data["X_test"], pixels["test"].transpose(0, 3, 1, 2))
    path.write_text("test_2.JPEG\tn01\n")
    with pytest.raises(ValueError, match="an annotation for every test image, .* none for .*_0"):
        load_tiny_imagenet(folder)


def test_jpeg_of_tiny_imagenet(tiny):
    folder, _ = tiny
    image = np.full((64, 64, 3), 77, np.uint8)
    Image.fromarray(image).save(folder / "val" / "images" / "val_1.JPEG", quality=95)
    data = load_tiny_imagenet(folder, subtract_mean=False)
    np.testing.assert_array_equal(data["X_val"][0], 77)


def cut(path):
    path.write_bytes(path.read_bytes()[:-400])


VAL = "val/images/val_1.JPEG"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (VAL, cut, "val_1.JPEG is not a readable image: .*truncated"),
        (VAL, lambda p: p.write_bytes(b""), "val_1.JPEG is not a readable image: cannot identify"),
        (VAL, lambda p: p.write_text("GIF89a"), "val_1.JPEG is not a readable image"),
        (
            VAL,
            lambda p: write_image(p, np.zeros((32, 64), np.uint8)),
            "val_1.JPEG is not a readable image: it must be 64 x 64; got 64 x 32",
        ),
        ("words.txt", lambda p: p.write_text("n01\tfish\nn02\n"), "2 fields .* line 2 is \\['n02'"),
        ("words.txt", lambda p: p.write_text("n01\tfish\n"), "line for every class .* 'n02'"),
        ("words.txt", lambda p: p.write_bytes(b"\xff\xfe\t\xff"), "words.txt is not a text file"),
        (
            "val/val_annotations.txt",
            lambda p: p.write_text("val_1.JPEG\tn77\n"),
            "val_annotations.txt must name classes of wnids.txt; got 'n77'",
        ),
        ("val/val_annotations.txt", lambda p: p.write_text(""), "at least one image for val"),
    ],
)
def test_damaged_tiny_imagenet(tiny, name, change, message):
    change(tiny[0] / name)
    with pytest.raises(ValueError, match=message):
        load_tiny_imagenet(tiny[0])


def test_missing_parts_of_tiny_imagenet(tiny, monkeypatch):
    folder, _ = tiny
    with pytest.raises(TypeError, match="dtype must be a floating dtype; got <class 'int'>"):
        load_tiny_imagenet(folder, int)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "PIL", None)
        with pytest.raises(ImportError, match=r"Pillow.*pip install 'fastbn\[images\]'"):
            load_tiny_imagenet(folder)
    for name in ("train/n01/images/n01_0.JPEG", "val/val_annotations.txt", "wnids.txt"):
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=name.split("/")[-1]):
            load_tiny_imagenet(folder)


# The images of ImageNet


def imagenet(path, **changes):
    arrays = {
        "X": np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3),
        "y": np.array([7, 1, 3]),
        "label_map": np.array({7: "cock", 1: "goldfish, é", 3: "tiger shark"}),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_imagenet_val(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no imagenet_val_25.npz .*pass imagenet_file"):
        load_imagenet_val()
    (tmp_path / "cs231n" / "datasets").mkdir(parents=True)
    path = tmp_path / "cs231n" / "datasets" / "imagenet_val_25.npz"
    arrays = imagenet(path)
    for num in (None, 2, 9):
        X, y, class_names = load_imagenet_val(num)
        np.testing.assert_array_equal(X, arrays["X"][:num], strict=True)
        np.testing.assert_array_equal(y, arrays["y"][:num], strict=True)
        assert class_names == {7: "cock", 1: "goldfish, é", 3: "tiger shark"}
    with pytest.raises(ValueError, match="num must be at least 0; got -1"):
        load_imagenet_val(-1)
    with pytest.raises(TypeError, match="num must be an integer; got 'all'"):
        load_imagenet_val("all", path)


def test_damaged_imagenet_val(tmp_path):
    path, target = tmp_path / "images.npz", tmp_path / "created"
    imagenet(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-30], whole[:200]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="images.npz is not a readable npz of images"):
            load_imagenet_val(imagenet_file=path)
    for changes, message in (
        ({"y": None}, "is not a readable npz of images: .*y.npy"),
        ({"y": np.zeros(4)}, r"N classes as y and a dict as label_map; got .*\(4,\)"),
        ({"X": np.zeros((3, 4))}, r"must hold images \(N, H, W, 3\) as X"),
        ({"label_map": np.zeros(2)}, "a dict as label_map; got .* NoneType"),
        ({"label_map": np.array([{}, {}])}, "a dict as label_map; got .* NoneType"),
        (
            {"label_map": np.array(Evil(open, str(target), "w"))},
            rf"it calls {open.__module__}\.open",
        ),
    ):
        imagenet(path, **changes)
        with pytest.raises(ValueError, match=message):
            load_imagenet_val(imagenet_file=path)
    assert not target.exists()


# Models


def test_load_models(tmp_path):
    for name, reg in (("b.pkl", 0.5), ("a", 1.5)):
        model = {"params": {"W1": np.full((2, 3), reg)}, "reg": reg}
        (tmp_path / name).write_bytes(pickle.dumps({"model": model, "epoch": 1}))
    (tmp_path / "README.txt").write_text("What these are.")
    (tmp_path / "folder").mkdir()
    models = load_models(tmp_path)
    assert list(models) == ["a", "b.pkl"]
    assert models["a"]["reg"] == 1.5
    np.testing.assert_array_equal(models["b.pkl"]["params"]["W1"], np.full((2, 3), 0.5))
    for content in (b"\x80", pickle.dumps({"epoch": 1}), pickle.dumps({"model": Evil(print)})):
        (tmp_path / "c.pkl").write_bytes(content)
        with pytest.raises(ValueError, match="c.pkl is not a"):
            load_models(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_models(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("start", "end"), [(b"}", b"Ns."), (b"}(", b"Nu."), (b"(", b"Nd."), (b"(", b"\x91."),
                       (b"\x8f(", b"\x90.")]
)  # fmt: skip
def test_nested_keys_are_not_hashed(start, end):
    # In a dict or set. The hash of 40 levels of (x, x) goes 2**40 ways.
    data = b"\x80\x04" + start + b")" + b"2\x86" * 40 + end
    with pytest.raises(ValueError, match="is not a readable pickle"):
        load_pickle(io.BytesIO(data))


@pytest.mark.parametrize(
    "read",
    [
        load_CIFAR_batch,
        load_CIFAR10,
        load_models,
        load_tiny_imagenet,
        lambda path: get_CIFAR10_data(cifar10_dir=path),
        lambda path: load_imagenet_val(imagenet_file=path),
    ],
)
def test_a_number_is_no_path(read, tmp_path):
    """`open` takes a number for an open file, and closes it: with 1, the program's output."""
    with open(tmp_path / "open", "w") as file:
        for number in (file.fileno(), True, np.int64(file.fileno()), np.array([]), None):
            if number is None and read.__name__ == "<lambda>":
                continue  # their default
            with pytest.raises(TypeError, match="must be a path; got"):
                read(number)
        file.write("still open")
    assert (tmp_path / "open").read_text() == "still open"


def test_small_integers_as_counts():
    data = get_digits_data(np.int8(100), np.int8(100))
    assert len(data["y_val"]) == len(data["y_test"]) == 100
    assert len(data["y_train"]) == 1597
