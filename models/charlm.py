"""A character language model: an LSTM of 256 units over embeddings of 256, for Shakespeare's works, say.

The sizes are those of "Julia ve Knet ile Derin Ogrenmeye Giris" (Introduction to deep learning with Julia and
Knet; slides by Deniz Yuret, METU summer school, 2016), which train the model with Knet7 on Gutenberg's 100.txt:

    (:lr=>1.0, :dropout=>0.0, :embedding=>256, :gclip=>5.0, :hidden=>256, :nlayer=>1, :seqlength=>100,
     :batchsize=>128)

The text is cut into 128 streams that are read side by side, 100 characters at a time; the LSTM's state goes
on from batch to batch, the gradient is cut there. The slides report as losses of the first five epochs 2.2448,
1.5556, 1.3716, 1.2884 and 1.2410 per character. Two recipes:

    adam    (default) loss averaged over the characters, Adam with learning rate 0.002
    knet7   the slides': loss summed over the 100 steps, SGD with learning rate 1.0

Both scale the gradient down to a norm of at most 5.

After training, ``graphnet generate`` writes text one character at a time.
"""

import math
import sys

import graphnet as gn


@gn.model
def charlm(ids, vocabulary, embedding=256, hidden=256, spread=1.0):
    """Scores of the next character at every place: ids (batch, time) to (batch, time, vocabulary).

    ``spread`` is the standard deviation of the first embeddings. Adam moves all numbers equally fast, so it
    wants large ones; the clipped steps of SGD go further from small ones.
    """
    x = gn.layers.embedding(ids, vocabulary, embedding, init=gn.init.normal(std=spread))
    x = gn.layers.lstm(x, hidden, stateful=True)
    return gn.layers.dense(x, vocabulary)


@gn.losses.loss(target=gn.losses.class_ids)
def summed(scores, ids):
    """Cross entropy summed over the time steps and averaged over the batch, as Knet7 adds it up."""
    return gn.losses.softmax_cross_entropy(scores, ids) * scores.shape[1]


RECIPE = {
    "task": "text",
    "data": "shakespeare",
    "embedded": {"data": "topics"},  # data that need no network
    "batch_size": 128,
    "steps": 100,
    "epochs": 10,
    "loss": gn.losses.softmax_cross_entropy,
    "optimizer": lambda lr: gn.optim.Adam(lr, clip_norm=5.0),
    "lr": 0.002,
}
KNET7 = {
    **RECIPE,
    "options": {"spread": 0.3},
    "loss": summed,
    "loss_terms": 100,  # characters of a stream in one loss: what to divide by for the loss per character
    "optimizer": lambda lr: gn.optim.SGD(lr, clip_norm=5.0),
    "lr": 1.0,
}
RECIPES = {"adam": RECIPE, "knet7": KNET7}


def main(data_name: str = "topics") -> None:
    """Print the mean loss per character of each epoch, and its perplexity."""
    text = gn.data.load(data_name)
    batch, steps = RECIPE["batch_size"], RECIPE["steps"]
    net = gn.compile(
        charlm,
        gn.spec((batch, steps), "int32"),
        vocabulary=len(text.vocabulary),
        loss=gn.losses.softmax_cross_entropy,
        optimizer=gn.optim.Adam(RECIPE["lr"], clip_norm=5.0),
    )
    for epoch in range(1, RECIPE["epochs"] + 1):
        net.reset_states()
        losses = [net.step(x, y) for x, y in gn.data.sequences(text.ids, batch, steps)]
        mean = sum(losses) / len(losses)
        print(f"epoch {epoch}  loss {mean:.4f}  perplexity {math.exp(mean):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
