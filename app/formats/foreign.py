"""Formats that are not read: a file of one is named, with the way to a file that is."""

import re
import zipfile
from pathlib import Path

from app.files import open_regular

PYTORCH = (
    "PyTorch's format: export the net by torch.onnx.export(net.eval(), (images,), 'net.onnx'), or "
    "its weights by safetensors.torch.save_file(net.state_dict(), 'net.safetensors')"
)
KERAS = "Keras's format: export the net by net.export('net.onnx', format='onnx')"
TFLITE = (
    "TensorFlow Lite's format: python -m tf2onnx.convert --tflite net.tflite --output net.onnx "
    "turns it into ONNX"
)
TENSORFLOW = (
    "TensorFlow's format: python -m tf2onnx.convert --saved-model FOLDER --output net.onnx turns "
    "the net into ONNX"
)
CAFFE = "Caffe's format: turn the net and its weights into ONNX, by caffe2onnx for example"
PICKLE = "a pickle, which can run any program: keep the arrays by numpy.savez('weights.npz', ...)"
ONE_ARRAY = (
    "one array without a name: weights are several, by numpy.savez('weights.npz', **{'conv1.w': "
    "w, 'conv1.b': b, ...})"
)

BEGINNINGS = {  # (place, bytes): format
    (0, b"\x93NUMPY"): ONE_ARRAY,
    (0, b"\x89HDF\r\n\x1a\n"): KERAS,
    (4, b"TFL3"): TFLITE,
    (0, b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"): PYTORCH,  # before its version 1.6
}
MEMBERS = {  # of a zip file, in any folder
    "data.pkl": PYTORCH,
    "archive_format": PYTORCH,
    "model.weights.h5": KERAS,
}
SUFFIXES = {
    **dict.fromkeys((".pt", ".pth", ".pt2", ".ckpt"), PYTORCH),
    **dict.fromkeys((".keras", ".h5", ".hdf5"), KERAS),
    ".tflite": TFLITE,
    ".pb": TENSORFLOW,
    ".caffemodel": CAFFE,
    **dict.fromkeys((".pkl", ".pickle"), PICKLE),
    ".npy": ONE_ARRAY,
}


def foreign_format(path: str | Path) -> str | None:
    """What a file is, by its contents or else its suffix, if that is a format of these; or None."""
    with open_regular(path) as file:
        beginning = file.read(16)
        for (place, expected), name in BEGINNINGS.items():
            if beginning[place:].startswith(expected):
                return name
        if re.match(rb"\x80[\x02-\x05]", beginning) and beginning[8:9] != b"{":  # a .safetensors'
            return PICKLE
        if beginning.startswith(b"PK"):
            try:
                names = zipfile.ZipFile(file).namelist()
            except Exception:  # noqa: BLE001  a zip file that is broken: it fails in many ways
                names = []
            for member, name in MEMBERS.items():
                if any(Path(other).name == member for other in names):
                    return name
    return SUFFIXES.get(Path(path).suffix.lower())
