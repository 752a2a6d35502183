"""Predicates over parameters: on a real model's tree, on Linen-like names and on an ensemble's."""

import jax
import numpy as np
import pytest
from flax import nnx

from fdl import models, regularizers


def chosen(params, select):
    marks = jax.tree_util.tree_leaves_with_path(regularizers.mask(select)(params))
    return {jax.tree_util.keystr(k, simple=True, separator=".") for k, on in marks if on}


def params_of(**options):
    config = models.MLPConfig.tiny(**options)
    abstract = nnx.eval_shape(lambda: models.MLP(config, rngs=nnx.Rngs(0)))
    return nnx.to_pure_dict(nnx.state(abstract, nnx.Param))


def test_weights_are_the_kernels_and_nothing_else():
    dense = {"hidden.0.affine.kernel", "hidden.1.affine.kernel", "output.kernel"}
    assert chosen(params_of(), regularizers.weights_only) == dense
    assert chosen(params_of(unit=models.prelu()), regularizers.weights_only) == dense
    normalised = {"hidden.0.affine.linear.kernel", "hidden.1.affine.linear.kernel", "output.kernel"}
    assert chosen(params_of(batch_norm=True), regularizers.weights_only) == normalised
    assert chosen(params_of(unit=models.rbf()), regularizers.weights_only) == {"output.kernel"}


def test_an_ensemble_has_the_same_weights_though_its_biases_have_two_axes():
    params = params_of(unit=models.prelu())
    stacked = jax.tree.map(lambda a: np.zeros((2, *a.shape)), params)
    expected = chosen(params, regularizers.weights_only)
    assert chosen(stacked, regularizers.weights_only) == expected


def test_select_paths_matches_the_whole_path():
    params = params_of()
    second = regularizers.select_paths(r"hidden\.1\..*")
    assert chosen(params, second) == {"hidden.1.affine.bias", "hidden.1.affine.kernel"}
    assert chosen(params, regularizers.select_paths("output")) == set()


def test_weight_mask_is_the_mask_of_weights_only():
    mask = regularizers.weight_mask({"kernel": np.ones((2, 2)), "bias": np.ones(2)})
    assert mask == {"kernel": True, "bias": False}


def test_selecting_nothing_names_what_there_was():
    with pytest.raises(ValueError, match="must choose a parameter, got none of: b, w"):
        regularizers.selected({"w": np.ones(2), "b": np.ones(2)}, regularizers.weights_only)


def test_select_paths_refuses_a_broken_pattern():
    with pytest.raises(ValueError, match=r"select_paths\(pattern='\(kernel'\)"):
        regularizers.select_paths("(kernel")
