"""How pictures of the well-known image sets become inputs, and what their classes are called."""

from __future__ import annotations

from .spec import Preprocess

IMAGENET = Preprocess(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FASHION_MNIST = Preprocess(size=(28, 28), mean=(0.2860,), std=(0.3530,), mode="L", resize="exact")
CIFAR10 = Preprocess(
    size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), mode="RGB", resize="exact"
)
CIFAR100 = Preprocess(
    size=(32, 32), mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762), mode="RGB", resize="exact"
)

FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10_LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
