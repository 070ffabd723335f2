ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "hswish": nn.Hardswish,
    "hsigmoid": nn.Hardsigmoid,
    "swish": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def conv_norm(c_in, c_out, kernel=1, stride=1, groups=1, activation="identity", bias=False):
    """Convolution, batch norm, activation: [n, c_in, h, w] -> [n, c_out, ⌈h/stride⌉, ⌈w/stride⌉]."""
    layers = OrderedDict()
    before, behind = kernel // 2, (kernel - 1) // 2
    if before != behind:
        layers["pad"] = nn.ZeroPad2d((before, behind, before, behind))
    padding = before if before == behind else 0
    layers["conv"] = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias)
    layers["bn"] = nn.BatchNorm2d(c_out)
    layers["activation"] = ACTIVATIONS[activation]()
    return nn.Sequential(layers)


def conv_activation(c_in, c_out, activation, bias):
    """1x1 convolution and activation, for maps of one pixel."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=bias)
    return nn.Sequential(OrderedDict(conv=conv, activation=ACTIVATIONS[activation]()))


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate that depends on the means of all channels."""

    def __init__(self, channels, width, activation, gate):
        super().__init__()
        self.se = nn.Sequential(
            conv_activation(channels, width, activation, bias=True),
            nn.Conv2d(width, channels, 1),
            ACTIVATIONS[gate](),
        )

    def forward(self, x):
        return x * self.se(x.mean((2, 3), keepdim=True))


class MbConv(nn.Module):
    """Inverted residual: [expand,] depthwise convolution, [squeeze-excite,] project."""

    def __init__(
        self, c_in, width, stride, kernel, mid, activation, *,
        expand=True, residual=False, groups=1, squeeze=None,
    ):
        super().__init__()
        layers = OrderedDict()
        if expand:
            layers["pw"] = conv_norm(c_in, mid, groups=groups, activation=activation)
        if groups > 1:
            layers["shuffle"] = nn.ChannelShuffle(groups)
        layers["dw"] = conv_norm(mid, mid, kernel, stride, groups=mid, activation=activation)
        if squeeze is not None:
            layers["se"] = SqueezeExcite(mid, **squeeze)
        layers["pwl"] = conv_norm(mid, width, groups=groups)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.residual = residual

    def forward(self, x):
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y if self.residual else y


class Residual(nn.Module):
    """Two 3x3 convolutions. The shortcut has no weights: every stride-th pixel, the shared channels."""

    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv1 = conv_norm(c_in, width, 3, stride, activation="relu")
        self.conv2 = conv_norm(width, width, 3)
        self.stride, self.more = stride, width - c_in

    def forward(self, x):
        shortcut = x[:, :, :: self.stride, :: self.stride]
        # Adds channels of zeros, or cuts channels off where the number is negative.
        shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.more))
        return self.conv2(self.conv1(x)) + shortcut


class Projection(nn.Module):
    """A skip where the shape changes: 1x1 convolution, batch norm, ReLU."""

    def __init__(self, c_in, width, stride):
        super().__init__()
        self.conv = conv_norm(c_in, width, stride=stride, activation="relu")

    def forward(self, x):
        return self.conv(x)


class Identity(nn.Module):
    """A skip: the first channels of its input."""

    def __init__(self, c_in, width):
        super().__init__()
        self.width = width

    def forward(self, x):
        return x[:, : self.width]


def conv_head(c_in, width, activation):
    """1x1 convolution, pooling: [n, c_in, h, w] -> [n, width, 1, 1]."""
    head = conv_norm(c_in, width, activation=activation, bias=True)
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    return head


def pooled_head(c_in, mid, width, activation, squeeze=None):
    """1x1 convolution, pooling, [squeeze-excite,] 1x1 convolution: [n, c_in, h, w] -> [n, width, 1, 1]."""
    layers = OrderedDict(pw=conv_norm(c_in, mid, activation=activation))
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    if squeeze is not None:
        layers["pw_se"] = SqueezeExcite(mid, **squeeze)
    layers["pwl"] = conv_activation(mid, width, activation, bias=False)
    return nn.Sequential(layers)


BLOCK_TYPES = {
    "mbconv": MbConv,
    "residual": Residual,
    "projection": Projection,
    "identity": Identity,
}
HEADS = {"conv": conv_head, "irpool": pooled_head}


class Network(nn.Module):
    """Images [n, CHANNELS, side, side], normalised -> logits [n, NUM_CLASSES]."""

    def __init__(self):
        super().__init__()
        width = STEM["c_out"]
        stages = OrderedDict(xif0_0=conv_norm(CHANNELS, **STEM, bias=True))
        for name, block, arguments in BLOCKS:
            stages[name] = BLOCK_TYPES[block](width, **arguments)
            width = arguments["width"]
        name, head, arguments = HEAD
        stages[name] = HEADS[head](width, **arguments)
        self.backbone = nn.Sequential(OrderedDict(stages=nn.Sequential(stages)))
        self.head = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(arguments["width"], NUM_CLASSES, 1), flatten=nn.Flatten())
        )

    def forward(self, images):
        shape = tuple(images.shape)
        if len(shape) != 4 or shape[1] != CHANNELS or shape[2] != shape[3]:
            raise ValueError(f"{NAME} takes images [n, {CHANNELS}, side, side], not {list(shape)}")
        side = shape[-1]
        if SUBSAMPLES and side < RESOLUTION:
            raise ValueError(f"{NAME} takes {RESOLUTION} or more pixels per side, not {side}")
        # Larger images are subsampled on a uniform grid, as in training.
        if SUBSAMPLES and side > RESOLUTION:
            pixels = torch.arange(RESOLUTION, device=images.device) * side // RESOLUTION
            images = images[:, :, pixels][:, :, :, pixels]
        return self.head(self.backbone(images))


def load(path=WEIGHTS):
    """The network with the weights of a safetensors file, for inference."""
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()


def main():
    network = load()
    images = torch.randn(2, CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        logits = network(images)
    if logits.shape != (2, NUM_CLASSES) or not logits.isfinite().all():
        raise SystemExit(f"{NAME}: the logits are wrong: {logits}")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{NAME}: {parameters} parameters, {tuple(images.shape)} -> {tuple(logits.shape)}")


if __name__ == "__main__":
    main()
