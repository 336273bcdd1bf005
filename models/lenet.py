"""LeNet (LeCun et al., 1998) for MNIST's digits: two convolutions with pooling, then two dense layers.

The recipe is from "Introducing Knet8: beginning deep learning with 100 lines of Julia" (Deniz Yuret, 2016):

    x1 = pool(max(0, conv4(w[1],x0) .+ w[2]))        # 20 filters of 5x5
    x2 = pool(max(0, conv4(w[3],x1) .+ w[4]))        # 50 filters of 5x5
    x3 = max(0, w[5]*mat(x2) .+ w[6])                # 500 units
    return w[7]*x3 .+ w[8]                           # 10 classes

Pixels in 0..1, batches of 100 in file order, weights uniform in (-0.1, 0.1), zero biases, learning rate 0.1
(that of the Knet7 run in Yuret's slides of the same year), 10 epochs, cross entropy averaged over the batch.
There it reached a test accuracy of 0.971 after the first epoch and 0.9879 after the tenth.
"""

import sys

import graphnet as gn
from graphnet.train import accuracy


@gn.model
def lenet(x, classes=10):
    """Scores before the softmax: (batch, 1, 28, 28) to (batch, classes)."""
    init = gn.init.uniform(-0.1, 0.1)
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 20, kernel=5, init=init)), 2)
    x = gn.max_pool2d(gn.relu(gn.layers.conv2d(x, 50, kernel=5, init=init)), 2)
    x = gn.relu(gn.layers.dense(gn.flatten(x), 500, init=init))
    return gn.layers.dense(x, classes, init=init)


RECIPE = {
    "task": "classification",
    "data": "mnist",
    "embedded": {"data": "digits", "epochs": 20},  # what differs on data that need no network
    "batch_size": 100,
    "epochs": 10,
    "loss": gn.losses.softmax_cross_entropy,
    "optimizer": gn.optim.SGD,
    "lr": 0.1,
}
RECIPES = {"knet8": RECIPE}


def main(data_name: str = "digits") -> None:
    """Print training and test accuracy after each epoch."""
    data = gn.data.load(data_name)
    recipe = {**RECIPE, **RECIPE["embedded"]} if data_name == "digits" else RECIPE
    net = gn.compile(
        lenet,
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
