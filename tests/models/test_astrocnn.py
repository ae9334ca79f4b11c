import pytest
import torch
from torch import nn

from galaxyml.models.astrocnn import AstroCNN


def test_astrocnn_is_the_published_baseline() -> None:
    steps = ((3, 32), (32, 64), (64, 128), (128, 256))
    convolutions = sum(9 * before * after + after for before, after in steps)
    norms = sum(2 * after for _, after in steps)
    net = AstroCNN()
    count = sum(p.numel() for p in net.parameters())
    assert count == convolutions + norms + (256 * 128 + 128) + (128 * 10 + 10) == 423_562
    assert round(count / 1e6, 2) == 0.42
    block = ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout2d"]
    kinds = [type(layer).__name__ for layer in net.features]
    assert kinds == [*block * 4, "AdaptiveAvgPool2d", "Flatten"]


@pytest.mark.parametrize("size", [(16, 16), (69, 69), (50, 97)])
def test_astrocnn_takes_any_size(size: tuple[int, int]) -> None:
    assert AstroCNN(7)(torch.rand(2, 3, *size)).shape == (2, 7)


def test_dropout_leaves_out_whole_channels() -> None:
    torch.manual_seed(0)
    features = AstroCNN(dropout=0.25).features[:5](torch.rand(4, 3, 32, 32))
    empty = (features == 0).all(dim=(2, 3))
    assert 0.1 < empty.float().mean() < 0.5
    assert (AstroCNN(dropout=0).features[:5](torch.rand(4, 3, 32, 32)) != 0).any(dim=(2, 3)).all()


def test_it_trains_with_channels_last() -> None:
    torch.manual_seed(0)
    net: nn.Module = AstroCNN(2, channels=(8, 16, 16, 16), hidden=16, dropout=0, head_dropout=0)
    net = net.to(memory_format=torch.channels_last)
    labels = torch.arange(32) % 2
    images = (torch.rand(32, 3, 16, 16) * (0.2 + 0.6 * labels[:, None, None, None])).contiguous(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
