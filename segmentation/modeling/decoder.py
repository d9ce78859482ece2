"""Guided upsampling of the aggregated class maps (CAT-Seg, sec. 3.4).

Letters: B images, T classes, (H, W) grid, C channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

# Channels per group of the group norms.
_GROUP = 16


class DoubleConv(nn.Module):
    """Twice: 3 x 3 convolution without bias, group norm, ReLU; the first takes two inputs.

    Args:
        in_channels: Of the class maps and the guidance together.
        out_channels: A multiple of 16.

    Raises:
        ValueError: ``out_channels`` is no multiple of 16.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels % _GROUP:
            raise ValueError(
                f"decoder width {out_channels} is no multiple of {_GROUP}, the channels of a group "
                "of its norms"
            )
        layers = []
        for channels in (in_channels, out_channels):
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
                nn.GroupNorm(out_channels // _GROUP, out_channels),
                nn.ReLU(inplace=True),
            ]
        self.double_conv = nn.Sequential(*layers)

    @property
    def _first_weight(self) -> nn.Parameter:
        """Of the convolution that takes both inputs, the class maps' channels first."""
        return self.double_conv[0].get_parameter("weight")

    def guidance_term(self, guidance: Tensor) -> Tensor:
        """The guidance's share of the first convolution, which is the same for every class.

        Args:
            guidance: (B, C, H, W), the last of the first convolution's input channels.

        Returns:
            (B, 1, out_channels, H, W).
        """
        weight = self._first_weight[:, -guidance.shape[1] :]
        return F.conv2d(guidance, weight, padding=1)[:, None]

    def forward(self, maps: Tensor, guidance_term: Tensor) -> Tensor:
        """(B * T, C, H, W) class maps, (B, 1, out, H, W) guidance -> (B * T, out, H, W)."""
        weight = self._first_weight[:, : maps.shape[1]]
        maps = F.conv2d(maps, weight, padding=1).unflatten(0, (len(guidance_term), -1))
        return self.double_conv[1:]((maps + guidance_term).flatten(0, 1))


class GuidedUpsampling(nn.Module):
    """Doubles the resolution of class maps and joins the image's guidance at that resolution.

    Args:
        in_channels: Of the class maps.
        out_channels: Of the result.
        guidance_channels: Of the guidance; the upsampled maps have ``in_channels`` minus these.

    Raises:
        ValueError: There is more guidance than room for it.
    """

    def __init__(self, in_channels: int, out_channels: int, guidance_channels: int) -> None:
        super().__init__()
        if guidance_channels >= in_channels:
            raise ValueError(
                f"{guidance_channels} guidance channels leave no room in a decoder step of "
                f"{in_channels}"
            )
        self.up = nn.ConvTranspose2d(in_channels, in_channels - guidance_channels, 2, stride=2)
        # The name of the release's keys: "conv.double_conv.0".
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, maps: Tensor, guidance_term: Tensor) -> Tensor:
        """Upsamples.

        Args:
            maps: (B * T, in_channels, H, W).
            guidance_term: (B, 1, out_channels, 2H, 2W) of ``conv.guidance_term``.

        Returns:
            (B * T, out_channels, 2H, 2W).
        """
        return self.conv(self.up(maps), guidance_term)
