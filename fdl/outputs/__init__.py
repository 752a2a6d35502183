"""Output units: what the last layer's numbers mean, and how likely a target then is."""

from fdl.outputs.discrete import Bernoulli as Bernoulli
from fdl.outputs.discrete import Multinoulli as Multinoulli
from fdl.outputs.discrete import Poisson as Poisson
from fdl.outputs.discrete import bernoulli as bernoulli
from fdl.outputs.discrete import multinoulli as multinoulli
from fdl.outputs.discrete import poisson as poisson
from fdl.outputs.expectation_maximization import fit_mixture as fit_mixture
from fdl.outputs.full_covariance import FullGaussian as FullGaussian
from fdl.outputs.full_covariance import FullPrecisionGaussian as FullPrecisionGaussian
from fdl.outputs.full_covariance import full_covariance as full_covariance
from fdl.outputs.gaussian import Gaussian as Gaussian
from fdl.outputs.gaussian import heteroscedastic as heteroscedastic
from fdl.outputs.gaussian import linear_gaussian as linear_gaussian
from fdl.outputs.laplace import Laplace as Laplace
from fdl.outputs.laplace import laplace as laplace
from fdl.outputs.mixture import Mixture as Mixture
from fdl.outputs.mixture_density import mixture as mixture
from fdl.outputs.unit import Distribution as Distribution
from fdl.outputs.unit import OutputUnit as OutputUnit

__all__ = [
    "Bernoulli",
    "Distribution",
    "FullGaussian",
    "FullPrecisionGaussian",
    "Gaussian",
    "Laplace",
    "Mixture",
    "Multinoulli",
    "OutputUnit",
    "Poisson",
    "bernoulli",
    "fit_mixture",
    "full_covariance",
    "heteroscedastic",
    "laplace",
    "linear_gaussian",
    "mixture",
    "multinoulli",
    "poisson",
]
