"""Optimizers and decays as optax gradient transformations."""

from fdl.optim.adaptive import SquaresState as SquaresState
from fdl.optim.adaptive import adagrad as adagrad
from fdl.optim.adaptive import rmsprop_nesterov as rmsprop_nesterov
from fdl.optim.adaptive import scale_by_adagrad as scale_by_adagrad
from fdl.optim.adaptive import scale_by_rmsprop as scale_by_rmsprop
from fdl.optim.armijo import scale_by_armijo as scale_by_armijo
from fdl.optim.augmented_lagrangian import ConstrainedResult as ConstrainedResult
from fdl.optim.augmented_lagrangian import ConstrainedStatus as ConstrainedStatus
from fdl.optim.augmented_lagrangian import augmented_lagrangian as augmented_lagrangian
from fdl.optim.augmented_lagrangian import penalty_method as penalty_method
from fdl.optim.averaging import AverageState as AverageState
from fdl.optim.averaging import averaged_params as averaged_params
from fdl.optim.averaging import polyak_average as polyak_average
from fdl.optim.bfgs import BFGSState as BFGSState
from fdl.optim.bfgs import bfgs as bfgs
from fdl.optim.bfgs import inverse_hessian as inverse_hessian
from fdl.optim.bfgs import scale_by_bfgs as scale_by_bfgs
from fdl.optim.blocks import CoordinateDescentState as CoordinateDescentState
from fdl.optim.blocks import blockwise as blockwise
from fdl.optim.blocks import coordinate_descent as coordinate_descent
from fdl.optim.constraints import per_unit as per_unit
from fdl.optim.constraints import project as project
from fdl.optim.constraints import projection_frobenius_ball as projection_frobenius_ball
from fdl.optim.constraints import projection_max_norm as projection_max_norm
from fdl.optim.constraints import projection_unit_norm as projection_unit_norm
from fdl.optim.continuation import GraduatedState as GraduatedState
from fdl.optim.continuation import graduated as graduated
from fdl.optim.continuation import smoothed as smoothed
from fdl.optim.decay import decoupled_l2 as decoupled_l2
from fdl.optim.hager_zhang import scale_by_hager_zhang as scale_by_hager_zhang
from fdl.optim.hessian_free import HessianFreeState as HessianFreeState
from fdl.optim.hessian_free import hessian_free as hessian_free
from fdl.optim.hessian_free import scale_by_hessian_free as scale_by_hessian_free
from fdl.optim.lbfgs import LBFGSState as LBFGSState
from fdl.optim.lbfgs import lbfgs as lbfgs
from fdl.optim.lbfgs import scale_by_lbfgs as scale_by_lbfgs
from fdl.optim.minimize import OptimizeResult as OptimizeResult
from fdl.optim.minimize import Status as Status
from fdl.optim.minimize import minimize as minimize
from fdl.optim.momentum import MomentumState as MomentumState
from fdl.optim.momentum import NesterovState as NesterovState
from fdl.optim.momentum import eval_params as eval_params
from fdl.optim.momentum import momentum as momentum
from fdl.optim.momentum import nesterov as nesterov
from fdl.optim.momentum import scale_by_momentum as scale_by_momentum
from fdl.optim.momentum import scale_by_nesterov as scale_by_nesterov
from fdl.optim.newton import NewtonState as NewtonState
from fdl.optim.newton import newton as newton
from fdl.optim.newton import scale_by_newton as scale_by_newton
from fdl.optim.newton_cg import NewtonCGState as NewtonCGState
from fdl.optim.newton_cg import newton_cg as newton_cg
from fdl.optim.newton_cg import scale_by_newton_cg as scale_by_newton_cg
from fdl.optim.nonlinear_cg import NonlinearCGState as NonlinearCGState
from fdl.optim.nonlinear_cg import nonlinear_cg as nonlinear_cg
from fdl.optim.nonlinear_cg import scale_by_nonlinear_cg as scale_by_nonlinear_cg
from fdl.optim.proximal import ProximalState as ProximalState
from fdl.optim.proximal import proximal_elastic_net as proximal_elastic_net
from fdl.optim.proximal import proximal_group_lasso as proximal_group_lasso
from fdl.optim.proximal import proximal_l1 as proximal_l1
from fdl.optim.saddle_free import SaddleFreeState as SaddleFreeState
from fdl.optim.saddle_free import saddle_free_newton as saddle_free_newton
from fdl.optim.saddle_free import scale_by_saddle_free_krylov as scale_by_saddle_free_krylov
from fdl.optim.search import LinesearchState as LinesearchState
from fdl.optim.search import SearchInfo as SearchInfo
from fdl.optim.wolfe import scale_by_wolfe as scale_by_wolfe

__all__ = [
    "AverageState",
    "BFGSState",
    "ConstrainedResult",
    "ConstrainedStatus",
    "CoordinateDescentState",
    "GraduatedState",
    "HessianFreeState",
    "LBFGSState",
    "LinesearchState",
    "MomentumState",
    "NesterovState",
    "NewtonCGState",
    "NewtonState",
    "NonlinearCGState",
    "OptimizeResult",
    "ProximalState",
    "SaddleFreeState",
    "SearchInfo",
    "SquaresState",
    "Status",
    "adagrad",
    "augmented_lagrangian",
    "averaged_params",
    "bfgs",
    "blockwise",
    "coordinate_descent",
    "decoupled_l2",
    "eval_params",
    "graduated",
    "hessian_free",
    "inverse_hessian",
    "lbfgs",
    "minimize",
    "momentum",
    "nesterov",
    "newton",
    "newton_cg",
    "nonlinear_cg",
    "penalty_method",
    "per_unit",
    "polyak_average",
    "project",
    "projection_frobenius_ball",
    "projection_max_norm",
    "projection_unit_norm",
    "proximal_elastic_net",
    "proximal_group_lasso",
    "proximal_l1",
    "rmsprop_nesterov",
    "saddle_free_newton",
    "scale_by_adagrad",
    "scale_by_armijo",
    "scale_by_bfgs",
    "scale_by_hager_zhang",
    "scale_by_hessian_free",
    "scale_by_lbfgs",
    "scale_by_momentum",
    "scale_by_nesterov",
    "scale_by_newton",
    "scale_by_newton_cg",
    "scale_by_nonlinear_cg",
    "scale_by_rmsprop",
    "scale_by_saddle_free_krylov",
    "scale_by_wolfe",
    "smoothed",
]
