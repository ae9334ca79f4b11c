"""The small convolutional net that Galaxy10's classes are commonly compared by."""

from itertools import pairwise

from torch import nn

from galaxyml.models.backbone_with_head import BackboneWithHead, hidden_layer


class AstroCNN(BackboneWithHead):
    """The published baseline of Galaxy10: 423,562 parameters for its ten classes.

    Blocks of a 3x3 convolution, batch norm, ReLU, a max pool and dropout; then the average over the image and a hidden
    layer. The input's size is free, from 16 px up.

    Args:
        outputs: Number of outputs, K.
        channels: Channels of the convolutions, one block each.
        hidden: Units of the hidden layer.
        dropout: Probability of leaving out a whole channel after a block. Neighbouring pixels are alike, so leaving out
            single ones would hide little (Tompson et al. 2015, arXiv:1411.4280).
        head_dropout: Probability of leaving a hidden unit out.
        in_chans: Channels of the images.
    """

    def __init__(
        self,
        outputs: int = 10,
        channels: tuple[int, ...] = (32, 64, 128, 256),
        hidden: int = 128,
        dropout: float = 0.1,
        head_dropout: float = 0.3,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((in_chans, *channels)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = hidden_layer(channels[-1], hidden, head_dropout, outputs)
