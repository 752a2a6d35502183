"""Every array of the fixture `losses` is tried by a test somewhere: none is left out in silence."""

import re
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
FIXTURE = np.load(TESTS / "fixtures" / "losses" / "data.npz")
NAMES = sorted({name.split(":")[0] for name in FIXTURE.files})
TRIED = {  # pattern of names -> files whose text must hold its first word
    r"gauss_\w+|mdn_softplus_sigma|bernoulli_logits|multinoulli_logits|poisson_lograte": (
        "outputs/test_fixture.py"
    ),
    r"label_smoothing_0\d+|soft_targets_ce": "losses/test_classification.py",
    r"mse_half|l1_median|huber_\d+|pinball_\d+": "losses/test_regression.py",
    r"logistic_surrogate|hinge|sq_hinge|exp_loss|multiclass_hinge": "losses/test_margins.py",
    r"focal_g\d+": "losses/test_focal.py",
    r"student_t_penalty|l1_penalty|kl_sparsity_rho0\d+": "regularizers/test_activations.py",
}


def test_no_name_of_the_fixture_is_left_out():
    for name in NAMES:
        files = [file for pattern, file in TRIED.items() if re.fullmatch(pattern, name)]
        assert files, f"no test tries {name}"
        text = (TESTS / files[0]).read_text(encoding="utf-8")
        assert re.sub(r"_[a-z]?(rho)?\d+$", "", name) in text, f"{files[0]} does not try {name}"
