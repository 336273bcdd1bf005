"""A multi-layer perceptron for MNIST's digits: 784 pixels, 64 hidden units with relu, 10 classes.

The recipe is from "Introducing Knet8: beginning deep learning with 100 lines of Julia" (Deniz Yuret, 2016):

    w = Any[ -0.1+0.2*rand(Float32,64,784), zeros(Float32,64,1),
             -0.1+0.2*rand(Float32,10,64),  zeros(Float32,10,1) ]

Pixels in 0..1, batches of 100 in file order, learning rate 0.5, 10 epochs, cross entropy averaged over the
batch. There it reached a test accuracy of 0.9407 after the first epoch and 0.9735 after the tenth. The
recipe ``shuffled`` draws a new order of the images for each epoch.
"""

import sys

import graphnet as gn
from graphnet.train import accuracy


@gn.model
def mlp(x, hidden=(64,), classes=10):
    """Scores before the softmax: (batch, 1, 28, 28) to (batch, classes), relu after each hidden layer."""
    x = gn.flatten(x)
    for units in hidden:
        x = gn.relu(gn.layers.dense(x, units, init=gn.init.uniform(-0.1, 0.1)))
    return gn.layers.dense(x, classes, init=gn.init.uniform(-0.1, 0.1))


RECIPE = {
    "task": "classification",
    "data": "mnist",
    "embedded": {"data": "digits", "lr": 0.2, "epochs": 20},  # what differs on data that need no network
    "batch_size": 100,
    "epochs": 10,
    "loss": gn.losses.softmax_cross_entropy,
    "optimizer": gn.optim.SGD,
    "lr": 0.5,
}
RECIPES = {"knet8": RECIPE, "shuffled": {**RECIPE, "shuffle": True}}


def main(data_name: str = "digits") -> None:
    """Print training and test accuracy after each epoch."""
    data = gn.data.load(data_name)
    recipe = {**RECIPE, **RECIPE["embedded"]} if data_name == "digits" else RECIPE
    net = gn.compile(
        mlp,
        gn.spec((recipe["batch_size"], 1, 28, 28)),
        loss=gn.losses.softmax_cross_entropy,
        optimizer=gn.optim.SGD(lr=recipe["lr"]),
    )
    for epoch in range(1, recipe["epochs"] + 1):
        for x, y in gn.data.minibatches(data.x_train, data.y_train, batch_size=recipe["batch_size"]):
            net.step(x, y)
        train, test = accuracy(net, data.x_train, data.y_train), accuracy(net, data.x_test, data.y_test)
        print(f"epoch {epoch}  train accuracy {train:.4f}  test accuracy {test:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
