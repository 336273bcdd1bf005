"""Linear regression on the Boston housing table: 13 columns to the median value of a house in $1000s.

The recipe is from "Introducing Knet8: beginning deep learning with 100 lines of Julia" (Deniz Yuret, 2016):

    predict(w, x) = w[1]*x .+ w[2]
    loss(w, x, y) = sumabs2(y - predict(w, x)) / size(y, 2)

All 506 rows in one batch, columns normalised by mean and n-1 standard deviation, learning rate 0.1. The
tutorial draws the first weights at random; here they are zero, so the numbers are the same everywhere: loss
592.14692 before the first step, 29.685812 after 10, 22.946777 after 20, 21.894831 after 10,000.
"""

import sys

import graphnet as gn


@gn.model
def linreg(x):
    """x @ w + b, all zero at first: (batch, columns) to (batch, 1)."""
    return gn.layers.dense(x, 1, init=gn.init.zeros())


RECIPE = {
    "task": "regression",
    "data": "housing",
    "embedded": {"data": "diabetes"},  # data that need no network
    "batch_size": None,  # all rows
    "epochs": 20,
    "dtype": "float64",
    "loss": gn.losses.mse,
    "optimizer": gn.optim.SGD,
    "lr": 0.1,
}
RECIPES = {"knet8": RECIPE}


def main(data_name: str = "diabetes") -> None:
    """Print the loss before training and after each epoch, which is one step."""
    data = gn.data.load(data_name)
    x, y = data.x_train.astype("float64"), data.y_train.astype("float64")
    net = gn.compile(linreg, gn.spec(x.shape, "float64"), loss=gn.losses.mse, optimizer=gn.optim.SGD(lr=RECIPE["lr"]))
    print(f"epoch 0  loss {net.loss(x, y):.6f}")
    for epoch in range(1, RECIPE["epochs"] + 1):
        net.step(x, y)
        print(f"epoch {epoch}  loss {net.loss(x, y):.6f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
