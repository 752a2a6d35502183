"""An LSTM writes the next character of a text (DLB 10.10, 12.4).

    scripts/run recipes/char_lm.py
    scripts/run recipes/char_lm.py --text notes/*.md

A state is carried from piece to piece of the text, while the gradient goes back one piece. At the
end the model writes on where the test part begins (sample.txt in the run folder).

Result on the last tenth of Python's help topics as of 3.13 (mean and deviation of seeds 0 to 4):
1.861 +- 0.025 bits for each character, where a 5-gram needs 2.122 and xz 1.832, both computed on
the same text in the same run; in 1 minute on 2 CPU cores.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fdl import data, losses, models, run, train
from fdl.generate import generate
from fdl.pure import pure

ROW = 4096  # characters read in one go when a text is scored


@dataclass(frozen=True)
class Config(run.Settings):
    steps: run.PositiveInt = 800  # updates
    batch: run.PositiveInt = 64  # streams of text, over all devices
    eval_every: run.PositiveInt = 200  # steps between two evaluations
    text: tuple[str, ...] = ()  # files or patterns; none: Python's help topics
    length: run.PositiveInt = 32  # characters in an update: so far back goes the gradient
    embedding: run.PositiveInt = 64  # features of a character
    units: run.PositiveInt = 256  # of each LSTM layer
    layers: run.PositiveInt = 1
    dropout: run.DropRate = 0.1  # of what enters and leaves the layers
    lr: run.PositiveFloat = 0.02  # of Adam, falling to 0 along a cosine
    clip: run.PositiveFloat = 1.0  # longest gradient
    order: run.PositiveInt = 5  # n of the n-grams to beat
    sample: run.PositiveInt = 300  # characters to write at the end
    temperature: run.NonNegativeFloat = 0.7  # of these


def main(cfg: Config, session: run.Session) -> dict[str, float]:
    # Data
    text = data.topics()
    if cfg.text:
        text = data.split_text(data.unique_paragraphs(data.load_text(cfg.text)))
    vocabulary = data.Vocabulary.of(text.train)
    tokens = {part: vocabulary.encode(getattr(text, part)) for part in text._fields}

    # Model
    net = pure(
        models.RNNLM(
            models.RNNLMConfig(
                vocabulary.size,
                cfg.embedding,
                cfg.units,
                cfg.layers,
                dropout=cfg.dropout,
                embedding_init=nnx.initializers.normal(1.0),  # what LeCun kernels expect
            ),
            rngs=nnx.Rngs(cfg.seed),
        )
    )
    carry, _ = net.apply(net.params, net.extra, cfg.batch, cfg.length, method="init_cache")

    # Objective
    def bits(logits, targets):
        return losses.softmax_cross_entropy(logits, targets) / np.log(2)

    def objective(params, extra, batch, key):
        """Bits for each character; what was read before comes in by the state, not the gradient."""

        def begin(a):
            return jnp.where(batch["reset"].reshape(-1, *[1] * (a.ndim - 1)) > 0, 0, a)

        carry = jax.tree.map(begin, extra["carry"].value)
        (logits, carry), _ = net.apply(
            params, net.extra, batch["x"], carry, return_cache=True, key=key, train=True
        )
        carry = jax.lax.stop_gradient(carry)
        return bits(logits, batch["y"]).mean(), ({"carry": train.PerExample(carry)}, {})

    @jax.jit
    def score(params, extra, batch):
        logits, _ = net.apply(params, net.extra, batch["x"])
        where = batch["mask"][:, None] * batch["where"]
        return {"bits": train.mean(bits(logits, batch["y"]), where)}

    def evaluate(params, part):
        rows = data.text_rows(tokens[part], ROW)
        batches = data.pad_batches(rows, min(len(rows["x"]), 16))
        return train.evaluate(score, params, {}, batches, prefix=f"{part}_")

    # Optimizer
    tx = optax.chain(
        optax.clip_by_global_norm(cfg.clip),
        optax.adam(optax.cosine_decay_schedule(cfg.lr, cfg.steps)),
    )

    # Step
    runner = session.lift(train.make_step(objective, tx))
    extra = {"carry": train.PerExample(carry)}
    state = train.init_state(net.params, extra, tx, seed=cfg.seed)
    state = runner.put(session.restore(state, data={"tokens": tokens["train"]}))

    # Loop
    for i in session.steps():
        batch = data.stream_batch(
            tokens["train"], cfg.batch, cfg.length, step=i - 1, process=session.process
        )
        state, metrics = runner.step(state, batch)
        session.log(i, metrics)
        if session.due(i):
            session.record(i, evaluate(runner.get(state.params), "valid"))
        session.checkpoint(i, lambda: runner.get(state))  # noqa: B023

    # Result
    final = runner.get(state.params)
    if session.process[0] == 0:
        vocabulary.save(session.folder / "vocabulary.json")
        prompt = text.test[:64]
        written = generate(
            net.apply,
            final,
            net.extra,
            vocabulary.encode(prompt)[None],
            max_new_tokens=cfg.sample,
            key=jax.random.key(cfg.seed),
            temperature=cfg.temperature,
        )
        story = prompt + vocabulary.decode(written.tokens[0])
        (session.folder / "sample.txt").write_text(story, encoding="utf-8")
        if not cfg.quiet:
            print(f"{story}\n\ntext of sha256 {text.sha256}")
    ngrams = data.fit_ngrams(tokens["train"], cfg.order, size=vocabulary.size)
    return (
        evaluate(final, "valid")
        | evaluate(final, "test")
        | {f"test_{cfg.order}gram_bits": -ngrams.log2_probs(tokens["test"])[1:].mean()}
        | {"test_xz_bits": data.compressed_bits(text.train, text.test)}
    )


if __name__ == "__main__":
    run.launch(main, Config)
