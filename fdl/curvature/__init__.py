"""Curvature of a function of many parameters: products, spectra, linear solves, critical points."""

from fdl.curvature.conjugate_gradient import CGResult as CGResult
from fdl.curvature.conjugate_gradient import CGStatus as CGStatus
from fdl.curvature.conjugate_gradient import conjugate_gradient as conjugate_gradient
from fdl.curvature.conjugate_gradient import jacobi as jacobi
from fdl.curvature.critical_points import CriticalPoint as CriticalPoint
from fdl.curvature.critical_points import Kind as Kind
from fdl.curvature.critical_points import classify_critical_point as classify_critical_point
from fdl.curvature.critical_points import condition_number as condition_number
from fdl.curvature.critical_points import is_positive_definite as is_positive_definite
from fdl.curvature.dense import gauss_newton as gauss_newton
from fdl.curvature.dense import hessian as hessian
from fdl.curvature.lanczos import Lanczos as Lanczos
from fdl.curvature.lanczos import lanczos as lanczos
from fdl.curvature.lanczos import tridiagonal as tridiagonal
from fdl.curvature.products import empirical_fvp as empirical_fvp
from fdl.curvature.products import fvp as fvp
from fdl.curvature.products import gnvp as gnvp
from fdl.curvature.products import gnvp_operator as gnvp_operator
from fdl.curvature.products import hvp as hvp
from fdl.curvature.products import hvp_operator as hvp_operator
from fdl.curvature.spectrum import Dominant as Dominant
from fdl.curvature.spectrum import Eigenpairs as Eigenpairs
from fdl.curvature.spectrum import SpectrumDensity as SpectrumDensity
from fdl.curvature.spectrum import extreme_eigenpairs as extreme_eigenpairs
from fdl.curvature.spectrum import lanczos_spectrum_density as lanczos_spectrum_density
from fdl.curvature.spectrum import power_iteration as power_iteration

__all__ = [
    "CGResult",
    "CGStatus",
    "CriticalPoint",
    "Dominant",
    "Eigenpairs",
    "Kind",
    "Lanczos",
    "SpectrumDensity",
    "classify_critical_point",
    "condition_number",
    "conjugate_gradient",
    "empirical_fvp",
    "extreme_eigenpairs",
    "fvp",
    "gauss_newton",
    "gnvp",
    "gnvp_operator",
    "hessian",
    "hvp",
    "hvp_operator",
    "is_positive_definite",
    "jacobi",
    "lanczos",
    "lanczos_spectrum_density",
    "power_iteration",
    "tridiagonal",
]
