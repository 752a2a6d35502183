"""Embedded tables, each with a fixed test part: a fifth of the rows, drawn once and stored.

The columns come in their own units; `fdl.data.fit_standard` learns mean and deviation from the
training part.
"""

import numpy as np

from fdl.data.embedded import embedded_table
from fdl.data.splits import Splits


def breast_cancer() -> Splits:
    """Return Wisconsin breast cancer: is a lump malignant, from measures of its cell nuclei?

    569 patients, 30 features: mean, standard error and worst value of radius, texture, perimeter,
    area, smoothness, compactness, concavity, concave points, symmetry and fractal dimension of the
    nuclei in a digitised picture of a fine needle aspirate (pixel units).
    Classes: 0 malignant (212), 1 benign (357).

    Returns:
      Splits(train, test) of {"x", "y"}: x float32 (455, 30) and (114, 30), y int32 in 0..1.

    Example:
      >>> train, test = breast_cancer()
      >>> train["x"].shape, test["x"].shape, test["y"][:6].tolist()
      ((455, 30), (114, 30), [0, 0, 0, 0, 1, 1])

    Source: Wolberg, Mangasarian, Street, Street 1995, UCI repository, as copied by scikit-learn.
    Licence CC BY 4.0.
    """
    return embedded_table("breast_cancer", np.int32)


def wine() -> Splits:
    """Return wine: which of three cultivars of one region, from a chemical analysis?

    178 wines, 13 features: alcohol, malic acid, ash, alcalinity of ash, magnesium, total phenols,
    flavanoids, non-flavanoid phenols, proanthocyanins, colour intensity, hue, OD280/OD315, proline.
    Classes: 0, 1, 2 (59, 71, 48).

    Returns:
      Splits(train, test) of {"x", "y"}: x float32 (142, 13) and (36, 13), y int32 in 0..2.

    Example:
      >>> train, test = wine()
      >>> train["x"].shape, test["x"].shape
      ((142, 13), (36, 13))

    Source: Aeberhard, Forina 1991, UCI repository, as copied by scikit-learn. Licence CC BY 4.0.
    """
    return embedded_table("wine", np.int32)


def iris() -> Splits:
    """Return Fisher's iris: which of three species, from four lengths of the flower?

    150 flowers, 4 features in cm: sepal length, sepal width, petal length, petal width.
    Classes: 0 setosa, 1 versicolor, 2 virginica (50 each).

    Returns:
      Splits(train, test) of {"x", "y"}: x float32 (120, 4) and (30, 4), y int32 in 0..2.

    Example:
      >>> train, test = iris()
      >>> train["x"].shape, test["x"].shape
      ((120, 4), (30, 4))

    Source: Fisher 1936, "The use of multiple measurements in taxonomic problems", as copied by
    scikit-learn, which agrees with Fisher's paper where the UCI file does not. Licence CC BY 4.0.
    """
    return embedded_table("iris", np.int32)


def diabetes() -> Splits:
    """Return diabetes: the progress of the disease one year on, from ten baseline measures (raw).

    442 patients, 10 features: age (years), sex (1, 2), body mass index (kg/m^2), mean blood
    pressure (mm Hg), and serum measures s1 total cholesterol, s2 LDL, s3 HDL, s4 cholesterol/HDL,
    s5 log triglycerides, s6 glucose. Target: a measure of progression, 25..346 (mean 152,
    deviation 77). The features are the raw ones; (x - mean) / (deviation * sqrt(442)) over all
    rows gives scikit-learn's scaled ones.

    Returns:
      Splits(train, test) of {"x", "y"}: x float32 (353, 10) and (89, 10), y float32 (353,) and
      (89,).

    Example:
      >>> train, test = diabetes()
      >>> train["x"].shape, test["y"].shape, train["y"][:3].tolist()
      ((353, 10), (89,), [151.0, 75.0, 141.0])

    Source: Efron, Hastie, Johnstone, Tibshirani 2004, "Least angle regression"; public, as copied
    by scikit-learn.
    """
    return embedded_table("diabetes", np.float32)
