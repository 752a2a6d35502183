"""An encoder and a decoder turn sequences round, with attention and without (DLB 12.4.5.1).

    scripts/run recipes/seq2seq.py
    scripts/run recipes/seq2seq.py --task sort

The decoder writes the letters of the source from the last to the first. Attention looks each up
where it stands; without it all must fit into the encoder's last states. The networks learn from 2
to 16 letters and then write new sequences of 16, 20 and 24 letters. attention.png in the run folder
shows what they looked at: a row for each letter written, a column for each letter read.

Result: of 16 letters Luong's attention with input feeding reverses .996 +- .002 of the sequences,
Bahdanau's all, and the network without attention .001 +- .002 (.34 +- .01 of the letters). Of 20
letters, more than it learned from, input feeding reverses .89 +- .02 of the sequences and Bahdanau
.06 +- .04; of 24 .30 +- .08 and none (5 seeds, 1 min each on 2 CPU cores). Sorting needs counts
only: without attention .975 of the sequences of 16 letters come out right, with it .92 and .95
(seed 0).
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, generate, losses, models, plots, run, train
from fdl.pure import pure

KINDS = {
    "luong": {"attention": models.general(), "input_feeding": True},
    "bahdanau": {"attention": models.additive(32)},
    "none": {"attention": None},
}
START, END, LETTERS = 0, 1, 16  # tokens: the start, the end, then the letters


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 1000  # updates of all networks
    batch: run.PositiveInt = 64  # sequences in an update, over all devices
    eval_every: run.PositiveInt = 200  # steps between two evaluations
    task: Literal["reverse", "sort"] = "reverse"  # what to do with the letters
    longest: run.PositiveInt = 16  # letters to learn from; the fewest are 2
    lengths: tuple[run.PositiveInt, ...] = (16, 20, 24)  # letters to be tried on
    units: run.PositiveInt = 48  # of the encoder in each direction and of the decoder
    lr: run.PositiveFloat = 0.005  # of Adam, falling to 0 along a cosine
    tests: run.PositiveInt = 200  # unseen sequences of each length


def draw(key, task, shortest, longest, width):
    """A source, filled up on the right, its length, and what to make of it, with an end."""
    size, letters = jax.random.split(key)
    n = jax.random.randint(size, (), shortest, longest + 1)
    at = jnp.arange(width)
    source = jax.random.randint(letters, (width,), 2, 2 + LETTERS)
    made = source[(n - 1 - at) % width]
    if task == "sort":
        made = jnp.sort(jnp.where(at < n, source, 2 + LETTERS))
    source, made = (jnp.where(at < n, tokens, END) for tokens in (source, made))
    return {"source": source, "length": n, "target": jnp.append(made, END)}


def read_before(target):
    """What the decoder reads at each step: the token before."""
    return jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=START)


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    def drawn(keys, *sizes):
        return jax.vmap(lambda key: draw(key, cfg.task, *sizes))(keys)

    def fixed(seed, *sizes):
        return jax.device_get(drawn(jax.random.split(jax.random.key(seed), cfg.tests), *sizes))

    learned = (min(2, cfg.longest), cfg.longest, cfg.longest)
    valid = fixed(1, *learned)
    tests = {n: fixed(3, n, n, max(cfg.lengths)) for n in cfg.lengths}
    fit = {"example": np.arange(cfg.batch)}  # drawn from its key, new at each step

    # Model
    nets = {}
    for name, kind in KINDS.items():
        config = models.Seq2SeqConfig(2 + LETTERS, 16, cfg.units, **kind)
        nets[name] = pure(models.Seq2Seq(config, rngs=nnx.Rngs(cfg.seed)))
    params = {name: net.params for name, net in nets.items()}

    # Objective
    def losses_of(params, batch):
        """Cross-entropy of each sequence's letters and its end, the letters before being given."""
        source, target, length = batch["source"], batch["target"], batch["length"]
        real = jnp.arange(target.shape[1])[None] <= length[:, None]
        before, each = read_before(target), {}
        for name, net in nets.items():
            logits, _ = net.apply(params[name], net.extra, source, before, lengths=length)
            nats = losses.softmax_cross_entropy(logits, target)
            each[name] = jnp.where(real, nats, 0).sum(1) / real.sum(1)
        return each

    def objective(params, extra, batch, key):
        del batch
        each = losses_of(params, drawn(key, *learned))
        metrics = {f"{name}_loss": train.mean(e) for name, e in each.items()}
        return sum(e.mean() for e in each.values()), (extra, metrics)

    @jax.jit
    def score(params, extra, batch):
        del extra
        each = losses_of(params, batch)
        return {f"{name}_loss": train.mean(e, batch["mask"]) for name, e in each.items()}

    # Optimizer
    rate = optax.cosine_decay_schedule(cfg.lr, cfg.steps)
    one = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    tx = optax.partition(dict.fromkeys(nets, one), {name: name for name in nets})

    # Step
    runner = session.lift(train.make_step(objective, tx))
    state = session.restore(train.init_state(params, {}, tx, seed=cfg.seed), data=fit)
    state = runner.put(state)

    # Loop
    for i in session.steps():
        batch = data.batch(fit, cfg.batch, seed=cfg.seed, step=i - 1, process=session.process)
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            now = runner.get(state.params)
            batches = data.pad_batches(valid, 256)
            session.record(i, train.evaluate(score, now, {}, batches, prefix="valid_"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final, figures, rows = runner.get(state.params), {}, {}
    for name, net in nets.items():
        maps = []
        for n, part in tests.items():
            source, length = part["source"], part["length"]
            how = {"lengths": length, "max_new_tokens": max(tests) + 1, "temperature": 0.0}
            made = generate.generate(net.apply, final[name], net.extra, source, **how).tokens
            right = (np.asarray(made) == part["target"])[:, : n + 1]
            figures[f"test_{name}_{n}_letters"] = float(right.mean())
            figures[f"test_{name}_{n}_sequences"] = float(right.all(1).mean())
            first, how = (source[:1], read_before(made[:1])), {"lengths": length[:1], "maps": True}
            seen = net.apply(final[name], net.extra, *first, **how)[0][1][0]
            maps.append(np.where(np.arange(len(seen))[:, None] < n, seen, 0))
        if KINDS[name]["attention"] is not None:
            rows[name] = plots.ImageRow(np.stack(maps), [f"{n} letters" for n in tests])
    session.picture("attention.png", plots.image_rows, rows)
    return figures


if __name__ == "__main__":
    run.launch(main, Config)
