"""One image as the model takes it: DenseCLIP.preprocess."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.images import decode_rgb
from fineclip.models import DenseCLIP
from fineclip.models.preprocessing import size_of_aspect


@pytest.fixture(scope="module")
def clip():
    return DenseCLIP.create("ViT-Ti-8-scenes").eval()


def test_pixels_are_resized_and_normalised(clip):
    image = Image.fromarray(np.full((30, 50, 3), (0, 51, 255), dtype=np.uint8))
    tensor = clip.preprocess(image)
    assert tensor.shape == (3, *clip.image_size) and tensor.dtype == torch.float32
    expected = (torch.tensor([0, 0.2, 1.0]) - torch.tensor(clip.image_mean)) / torch.tensor(
        clip.image_std
    )
    assert torch.allclose(tensor, expected.view(3, 1, 1).expand_as(tensor), atol=1e-5)
    assert clip.encode_image(tensor[None]).shape == (1, clip.embed_dim)
    assert clip.preprocess(image, (32, 48)).shape == (3, 32, 48)
    assert clip.preprocess(image, 32, keep_aspect=True).shape == (3, 24, 40)
    with pytest.raises(ValueError, match="multiples of the patch, 8 x 8 pixels, got 20 x 20"):
        clip.preprocess(image, 20)


def test_the_aspect_is_kept_for_no_more_patches():
    for width, height in [(640, 480), (480, 640), (100, 100), (3000, 40), (40, 3000)]:
        rows, columns = (side // 16 for side in size_of_aspect(width, height, (224, 224), (16, 16)))
        assert 0.7 * 196 <= rows * columns <= 196
        if max(width, height) < 1000:
            assert columns / rows == pytest.approx(width / height, rel=0.1)


def test_photographs_are_upright_whichever_way_they_are_read(clip):
    """A phone's photograph: black above white once it is turned by its EXIF orientation, 6."""
    stored = np.zeros((40, 64, 3), dtype=np.uint8)
    stored[:, 32:] = 255  # lies on its side: the right half is below when it stands
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x112] = 6
    Image.fromarray(stored).save(file, "JPEG", exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    decoded = decode_rgb(file.getvalue(), "photo.jpg")
    assert decoded.size == (40, 64)
    ways = [clip.preprocess(image, 32, keep_aspect=True) for image in (opened, decoded)]
    assert torch.equal(*ways)
    assert ways[0].shape == (3, 40, 24)
    assert (ways[0][:, :18] < 0).all() and (ways[0][:, 22:] > 0).all()
