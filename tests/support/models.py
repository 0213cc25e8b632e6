"""Files of models as engines read them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_model(path: Path, tensors: Mapping[str, int]) -> None:
    """Write a safetensors file of random bytes.

    Args:
        path: of the file.
        tensors: name -> bytes.
    """
    places, end = {}, 0
    for name, size in tensors.items():
        places[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(places).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + os.urandom(end))
