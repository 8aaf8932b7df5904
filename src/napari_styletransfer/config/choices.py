"""What there is to choose from: the closed lists of names that settings take. Called by `settings`."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """What is optimised for."""

    TRANSFER = "transfer"
    CONTENT = "content-reconstruction"
    STYLE = "style-reconstruction"
    COLORS = "colors"

    @property
    def uses_content(self) -> bool:
        """Whether a content picture is needed."""
        return self is not Mode.STYLE

    @property
    def uses_styles(self) -> bool:
        """Whether style pictures are needed."""
        return self is not Mode.CONTENT


class Network(StrEnum):
    """Feature networks by name; `auto` is resolved when the run is planned.

    `vgg19` has the weights of Simonyan and Zisserman, which the papers used; `vgg19_torchvision` has the same layers
    with the weights that torchvision trained anew, which make other pictures.
    """

    AUTO = "auto"
    VGG19 = "vgg19"
    COMPACT = "compact"
    SQUEEZENET = "squeezenet1_1"
    VGG16 = "vgg16"
    VGG16_BN = "vgg16_bn"
    VGG19_TORCHVISION = "vgg19_torchvision"


class Pooling(StrEnum):
    """How feature maps are made smaller; `native` is what the network was trained with."""

    AVERAGE = "average"
    MAX = "max"
    NATIVE = "native"


class Padding(StrEnum):
    """What a convolution sees beyond the border."""

    REFLECT = "reflect"
    REPLICATE = "replicate"
    ZERO = "zero"


class Normalization(StrEnum):
    """How the loss terms are scaled against each other."""

    RELATIVE = "relative"
    GATYS = "gatys"
    NOTEBOOK = "notebook"


class StyleFit(StrEnum):
    """How a style picture is brought to the size of the content."""

    COVER = "cover"
    WHOLE = "whole"


class Start(StrEnum):
    """The image the optimisation starts from; `auto` chooses by mode."""

    AUTO = "auto"
    RETEXTURED = "retextured"
    RECOLORED = "recolored"
    CONTENT = "content"
    STYLE_STATISTICS = "style-statistics"
    MEDIAN_NOISE = "median-noise"
    WHITE_NOISE = "white-noise"
    IMAGE = "image"


class Color(StrEnum):
    """Whose colours the result has."""

    STYLE = "style"
    CONTENT = "content"
    MATCH = "match"


class Movie(StrEnum):
    """What the planes of a stack start from, after the first."""

    FOLLOW = "follow"
    APART = "apart"


class ColorMatch(StrEnum):
    """Which affine map gives one picture the mean and covariance of another's colours."""

    TRANSPORT = "transport"
    PCA = "pca"
    CHOLESKY = "cholesky"


class Optimizer(StrEnum):
    """The algorithm that moves the pixels."""

    LBFGS = "lbfgs"
    ADAM = "adam"


class LineSearch(StrEnum):
    """How an L-BFGS step length is accepted."""

    NONE = "none"
    BACKTRACKING = "backtracking"
    WOLFE = "wolfe"


class Precision(StrEnum):
    """Number format of the convolutions; image, Gram sums and optimiser are always float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
