"""Small convolutional nets, trained from scratch."""

from itertools import pairwise

from torch import nn

from galaxyml.models.backbone_with_head import BackboneWithHead, hidden_layer


class GalaxyCNN(BackboneWithHead):
    """The published baseline of the vote-fraction task.

    Four 3x3 convolutions, three max pools, an average pool and a hidden layer of 512 units; the input's size is free,
    from 8 strides up.

    Args:
        outputs: Number of outputs, K.
        channels: Channels of the four convolutions.
        hidden: Units of the hidden layer.
        dropout: Probability of leaving a hidden unit out.
        batch_norm: Whether to normalise after each convolution (the baseline does not).
        stride: Step of the first convolution (the baseline's is 1); 4 makes it ten times faster.
        in_chans: Channels of the images.
    """

    def __init__(
        self,
        outputs: int = 37,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        hidden: int = 512,
        dropout: float = 0.5,
        batch_norm: bool = False,
        stride: int = 1,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for depth, (before, after) in enumerate(pairwise((in_chans, *channels))):
            layers += [nn.MaxPool2d(2)] if depth else []
            step = 1 if depth else stride
            side = max(3, step + 1)
            layers += [nn.Conv2d(before, after, side, step, padding=side // 2, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = hidden_layer(channels[-1], hidden, dropout, outputs)
