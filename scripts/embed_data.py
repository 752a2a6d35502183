"""Write the data sets that travel inside the package: fdl/data/sets/*.npz.

    python scripts/embed_data.py [FOLDER]

Needs scikit-learn, networkx, statsmodels and scikit-image, whose copies of the public data are the
source (versions used: 1.9.1, 3.6.1, 0.15.0, 0.26.0). The files hold small dtypes, members in a
fixed order and no clock time, so running it again (with the same zlib and Pillow) gives the same
bytes; the sha256 of each file is printed.

The rows of the test part of a table are stored in the file (`test`), not drawn at load time: they
stay the same whatever becomes of NumPy's generators.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import skimage
import statsmodels.api
from PIL import Image
from sklearn import datasets

SETS = Path(__file__).resolve().parents[1] / "fdl" / "data" / "sets"


def write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on nothing but the arrays."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(
                member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
            )
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue(), compresslevel=9)


def test_rows(n: int) -> np.ndarray:
    """Return the rows of the test part: the last fifth of default_rng(0).permutation(n)."""
    return np.sort(np.random.default_rng(0).permutation(n)[int(0.8 * n) :]).astype(np.uint16)


def classification(bunch: Any) -> dict[str, np.ndarray]:
    """Return a table with class labels; float32 holds the 4-5 printed digits of every cell."""
    x = bunch.data.astype(np.float32)
    return {"x": x, "y": bunch.target.astype(np.uint8), "test": test_rows(len(x))}


def digits() -> dict[str, np.ndarray]:
    bunch = datasets.load_digits()
    return {"images": bunch.images.astype(np.uint8), "labels": bunch.target.astype(np.uint8)}


def diabetes() -> dict[str, np.ndarray]:
    bunch = datasets.load_diabetes(scaled=False)
    x, y = bunch.data.astype(np.float32), bunch.target.astype(np.uint16)
    return {"x": x, "y": y, "test": test_rows(len(x))}


def karate() -> dict[str, np.ndarray]:
    graph = networkx.karate_club_graph()
    edges = sorted((min(a, b), max(a, b), w) for a, b, w in graph.edges(data="weight"))
    clubs = [graph.nodes[node]["club"] == "Officer" for node in sorted(graph.nodes)]
    return {
        "edges": np.array([edge[:2] for edge in edges], np.uint8),
        "weights": np.array([edge[2] for edge in edges], np.uint8),
        "clubs": np.array(clubs, np.uint8),
    }


def sunspots() -> dict[str, np.ndarray]:
    table = statsmodels.api.datasets.sunspots.load_pandas().data
    return {
        "year": table["YEAR"].to_numpy().astype(np.uint16),
        "number": table["SUNACTIVITY"].to_numpy().astype(np.float32),
    }


def natural() -> dict[str, np.ndarray]:
    """Return pictures, grey and half as large, each pixel the mean of four."""
    pictures = {}
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "camera.png", "rocket.jpg"):
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            pictures[Path(name).stem] = np.asarray(image.convert("L").reduce(2))
    return pictures


def main(folder: Path) -> None:
    sets = {
        "digits": digits(),
        "breast_cancer": classification(datasets.load_breast_cancer()),
        "wine": classification(datasets.load_wine()),
        "iris": classification(datasets.load_iris()),
        "diabetes": diabetes(),
        "karate": karate(),
        "sunspots": sunspots(),
        "natural": natural(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, arrays in sets.items():
        path = folder / f"{name}.npz"
        write(path, arrays)
        content = path.read_bytes()
        print(
            f"{path.name:18} {len(content):6} bytes  sha256 {hashlib.sha256(content).hexdigest()}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SETS)
